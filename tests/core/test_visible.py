from __future__ import annotations

import pytest

from bulkup.core.visible import assignment, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("it's", "it's"),
        ("", "''"),
        (" ", "' '"),
        ("a ", "'a '"),
        ("\u00a0", "'\\xa0'"),
        ("a\u200bb", "'a\\u200bb'"),
        ("\u3164", "'\\u3164'"),
        ("a\nb", "'a\\nb'"),
        ("né", "né"),
    ],
)
def test_what_nobody_would_see_is_quoted(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert assignment("sep", text) == f"sep={shown}"
