"""Makes strings visible that a reader would not see."""

from __future__ import annotations

_BLANK = "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that `isprintable` allows and that most fonts draw as nothing."""


def is_visible(text: str) -> bool:
    """Whether a reader sees all of it within a sentence, including where it begins and ends."""
    return text.isprintable() and text == text.strip() != "" and not any(c in text for c in _BLANK)


def visible(text: str) -> str:
    """The string, as a Python literal if it is empty, begins or ends with a space, or has invisible
    characters."""
    if is_visible(text):
        return text
    return ascii(text) if any(c in text for c in _BLANK) or not text.isprintable() else repr(text)


def assignment(name: str, value: str) -> str:
    """`sep=-`, but `sep=' '`: quoted only if a reader would not see the value otherwise."""
    return f"{name}={visible(value)}"
