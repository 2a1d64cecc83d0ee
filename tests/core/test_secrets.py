"""Secrets in foreign texts are removed before anybody sees, stores or mails them."""

from __future__ import annotations

import json

import pytest

from bulkup.core.errors import BulkupError
from bulkup.core.secrets import without_secrets
from bulkup.core.user_traceback import error_line, user_traceback

SECRET = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\nxyz\n-----END PRIVATE KEY-----\n"
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
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_removed(text: str) -> None:
    assert SECRET not in without_secrets(f"before {text}")
    assert without_secrets(f"before {text}").startswith("before ")


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
    ):
        without_secrets(part * (300_000 // len(part)))
