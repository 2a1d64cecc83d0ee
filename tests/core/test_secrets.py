"""Secrets in foreign texts are removed before anybody sees, stores or mails them."""

from __future__ import annotations

import json

import pytest

from bulkup.core.errors import BulkupError
from bulkup.core.secrets import without_secrets
from bulkup.core.user_traceback import error_line, user_traceback

SECRET = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\nxyz\n-----END PRIVATE KEY-----\n"
LONG_PEM = "\n".join(
    ["-----BEGIN RSA PRIVATE KEY-----", *(f"{n:02}" + SECRET * 2 for n in range(9)), "Qx8=",
     "-----END RSA PRIVATE KEY-----", ""]
)  # fmt: skip
ACCOUNT = json.dumps({"type": "service_account", "private_key": PEM, "client_email": "a@b.c"})
JWT = f"eyJhbGciOiJSUzI1NiJ9.{SECRET}.{SECRET}"

TEXTS = [
    PEM,
    PEM[:60],
    ACCOUNT,
    repr(ACCOUNT),
    json.dumps({"error": ACCOUNT}),
    f"File {ACCOUNT} was not found.",
    f'"client_secret": "{SECRET}"',
    f"{{'refresh_token': '{SECRET}'}}",
    f'password = "{SECRET}"',
    f"PASSWORD={SECRET}",
    f"POST /token?access_token={SECRET}&a=1",
    f"https://user:{SECRET}@proxy.example.com:3128/x",
    f"smtp://:{SECRET}@mail.example.com",
    f"Authorization: Bearer {SECRET}",
    f"authorization: Basic {SECRET}==",
    f"ya29.{SECRET}",
    f"GOCSPX-{SECRET}",
    f"AIza{SECRET}",
    JWT,
    # Cut off at the end,
    f"https://user:{SECRET}",
    f"smtp://:{SECRET}…",
    "AIza" + SECRET[:20],
    JWT[:40],
    # at the beginning,
    PEM[5:],
    PEM[18:],
    PEM[28:],
    json.dumps(PEM[28:]),
    PEM[28:].replace("\n", "\r\n   "),
    f"SUzI1NiJ9.eyJ{SECRET}.{SECRET}",
    # and at both ends.
    PEM[18:60],
    PEM[28:-18],
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_removed(text: str) -> None:
    assert SECRET[:8] not in without_secrets(f"before {text}")
    assert without_secrets(f"before {text}").startswith("before ")


def test_of_a_key_of_which_only_the_end_is_seen_nothing_is_shown() -> None:
    lines = LONG_PEM.splitlines()[1:-1]
    for cut in range(len(LONG_PEM) - 60):
        shown = without_secrets(f"{LONG_PEM[cut:]}Traceback:\n  boom")
        assert not any(line in shown for line in lines)
        assert shown.endswith("Traceback:\n  boom")


def caught(text: str) -> ValueError:
    try:
        try:
            raise LookupError(text)
        except LookupError as cause:
            raise ValueError(f"{text}\n" * 50) from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize("text", TEXTS)
def test_no_exception_shows_a_secret(text: str) -> None:
    assert SECRET not in error_line(caught(text))
    assert SECRET not in user_traceback(caught(text))
    error = BulkupError(f"it failed: {text}", details=text)
    assert SECRET not in str(error) + error.message + error.details


@pytest.mark.parametrize(
    "text",
    [
        "Key('City', 5): ValueError: no latitude",
        "no password is set: set BULKUP_SMTP_PASSWORD",
        "the token: expired",
        "http://localhost:8081/x, http://[::1]:8081, see https://example.com/a@b",
        "Basic and Bearer are schemes",
        'entity["secret"] is None',
        "no answer from http://localhost:8081.",
        "-----END PUBLIC KEY-----\nand more",
    ],
)
def test_a_text_without_secrets_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_the_time_grows_with_the_text() -> None:
    """Crafted texts of 300 kB that would take minutes with backtracking."""
    for part in (
        "-----BEGIN A",
        "password='",
        "a://b:",
        "eyJaaaaaaaaa.",
        'token="\\',
        "secret\\\\",
        "AAAA\n",
        "A\n  ",
        "\\n\\",
        "KEY-----\n",
        "-----END A",
        "a://b:c",
    ):
        without_secrets(part * (300_000 // len(part)) + "-----END")
