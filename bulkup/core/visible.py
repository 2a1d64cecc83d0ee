"""Strings that a reader would not see, made visible."""

from __future__ import annotations

_BLANK = "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that `isprintable` allows and that most fonts draw as nothing."""


def is_visible(text: str) -> bool:
    """Whether a reader sees all of it in the middle of a sentence: where it begins and ends."""
    return text.isprintable() and text == text.strip() != "" and not any(c in text for c in _BLANK)


def visible(text: str) -> str:
    """The string, as a Python literal if it is empty, or begins or ends with a space, or has
    characters that nobody sees."""
    if is_visible(text):
        return text
    return ascii(text) if any(c in text for c in _BLANK) or not text.isprintable() else repr(text)


def assignment(name: str, value: str) -> str:
    """`sep='-'` would be odd, but `sep=` says nothing of a space."""
    return f"{name}={visible(value)}"
