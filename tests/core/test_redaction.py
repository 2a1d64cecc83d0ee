"""What is private does not survive redaction; what helps to find a fault does."""

from __future__ import annotations

import pytest

from bulkup.core.redaction import Redactor
from bulkup.core.typed_key import typed_key

REDACTOR = Redactor(b"of this run")
KEEPS = Redactor(b"of this run", keeps_values=True)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Commit: UNAVAILABLE", "Commit: UNAVAILABLE"),
        ("the property 'age' of Key('City', 5) is 36", "the property … of Key('City', '~"),
        ("it was changed by ann@example.com", "it was changed by #"),
        ("call 0791234567 or +41", "call # or #"),
        ("Grüezi Zoë", "# #"),
        ("finish raised ValueError: Bob Marley\nand more", "finish raised ValueError: ["),
        ("U.finish raised app.Boom: Bob Marley; resume", "U.finish raised app.Boom: ["),
        (
            "held for too long (--max-hold): the health command says Bob",
            "held for too long (--max-hold): [",
        ),
        ("check_after of U failed: Bob Marley is missing", "check_after of U failed: ["),
        ("healthy of U failed: Bob Marley is ill", "healthy of U failed: ["),
        ('an unfinished "string', "an unfinished …"),
        ("it's the user's", "it's the user's"),
        ("a" * 200, "#"),
        ("", ""),
    ],
)
def test_messages_keep_their_words_and_lose_what_they_quote(text: str, kept: str) -> None:
    redacted = REDACTOR.message(text)
    assert redacted.startswith(kept) if kept.endswith(("~", "[")) else redacted == kept
    for private in ("36", "ann", "079", "Bob", "string", "Zo", "aaa"):
        assert private not in redacted or private not in text
    assert KEEPS.message(text) == text


def test_keys_keep_their_kinds_and_can_still_be_read() -> None:
    text = "Key('City', 5, 'House', 'ann@example.com', namespace='acme')"
    redacted = REDACTOR.key(text)
    assert not {"5,", "ann", "acme"} & {*redacted.replace("'", " ").split()}
    found = typed_key(redacted)
    assert found is not None
    assert [kind for kind, _ in found["path"]] == ["City", "House"]
    assert redacted == REDACTOR.key(text)
    assert redacted != Redactor(b"of another").key(text)
    assert REDACTOR.key("nonsense\x1b[2J").startswith("Key('~")
    assert KEEPS.key(text) == text


def test_texts_of_the_user_leave_the_type_of_the_error_alone() -> None:
    assert REDACTOR.users_error("ValueError: secret words").startswith("ValueError: [")
    assert REDACTOR.users_error("KeyError") == "KeyError"
    for text in ("Bob Marley", "Bob: is bad", "Zoë: x", "a b: c"):
        assert "Bob" not in REDACTOR.users_text(text)
        assert text not in REDACTOR.users_text(text)
    assert REDACTOR.users_text("") == ""


def test_tracebacks_are_files_lines_and_functions() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "/home/ann/work/add.py", line 8, in handle\n'
        '    raise ValueError("Bob")\n'
        '  File "/x/lib/python3.11/site-packages/geo/code.py", line 2, in look\n    x = "y"\n'
        "ValueError: Bob"
    )
    assert REDACTOR.traceback(traceback).splitlines() == [
        '  File "add.py", line 8, in handle', '  File "geo/code.py", line 2, in look',
    ]  # fmt: skip
    assert KEEPS.traceback(traceback) == traceback


def test_secrets_never_stay() -> None:
    params = {"word": "Hoi", "api_token": "abcdef", "PASSWORD": "hunter2"}
    for redactor in (REDACTOR, KEEPS):
        shown = redactor.parameters(params)
        assert shown["api_token"] == shown["PASSWORD"] == "[removed]"
    assert KEEPS.parameters(params)["word"] == "Hoi"
    assert "hunter2" not in KEEPS.message("https://ann:hunter2@host/ failed")
    assert "hunter2" not in KEEPS.users_text("password=hunter2")


def test_the_namespace_in_the_id_of_a_run_is_hashed() -> None:
    assert REDACTOR.run_id("20260101-1@acme+2").startswith("20260101-1@")
    assert REDACTOR.run_id("20260101-1@acme+2").endswith("+2")
    assert "acme" not in REDACTOR.run_id("20260101-1@acme+2")
    assert REDACTOR.run_id("20260101-1+2") == "20260101-1+2"
