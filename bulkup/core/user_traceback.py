"""Tracebacks for users: their own frames and those of their libraries, none of bulkup's."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from bulkup.core.places import Place, places_of
from bulkup.core.secrets import without_secrets

MAX_FRAMES = 30
"""Frames per exception. For a deep recursion, both ends are enough."""
MAX_PART_CHARS = 2_000
"""Limit per frame or message: an exception's message may hold a whole entity."""
MAX_CHARS = 20_000
"""Limit in total: exceptions chain, and a run may keep many tracebacks."""
MAX_LINE_CHARS = 500
"""Limit for `error_line`, which is shown in tables and mails."""

BULKUP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
"""The folder of bulkup's own files."""
_MACHINERY = (
    BULKUP,
    "<frozen importlib",
    "<frozen runpy",
    os.path.join(os.path.dirname(importlib.__file__), ""),
    str(runpy.__file__),
)


def user_traceback(exc: BaseException, *, keep_from: str | None = None) -> str:
    """`exc` as Python prints it, with the user's frames only.

    Frames of bulkup, importlib and runpy are left out. `keep_from` is the path of a source file:
    if that file has a frame, the frames before its first one are left out too. Chained exceptions
    are trimmed in the same way. The places that `exc` names (`core/places.py`) come last. The
    result is bounded, can always be encoded and contains no secrets, but its content is untrusted.
    A strange exception does not make this function raise.
    """
    printed = traceback.TracebackException.from_exception(exc, lookup_lines=False, compact=True)
    for part in _chain(printed):
        _trim(part, keep_from)
    # Secrets first: half of a key would not be recognised.
    parts = [*printed.format(), *(f"{place.frame()}\n" for place in places_of(exc))]
    text = "".join(_cut(without_secrets(part), MAX_PART_CHARS) for part in parts)
    return encodable(_cut(text, MAX_CHARS)).rstrip("\n")


def is_own(exc: BaseException) -> bool:
    """Whether bulkup's code raised this, and not the user's or a library's."""
    code = None
    for frame, _ in traceback.walk_tb(exc.__traceback__):
        code = frame.f_code
    return code is not None and code.co_filename.startswith(BULKUP)


def refused_call(exc: BaseException) -> list[Place]:
    """Where the user's code called the bulkup code that raised this; empty if bulkup did not."""
    if not is_own(exc):
        return []
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(exc.__traceback__)]
    users = [one for one in frames if not one[0].co_filename.startswith(_MACHINERY)]
    return [Place(code.co_filename, line, code.co_name) for code, line in users[-1:]]


def calling_places() -> list[Place]:
    """The innermost line of the user's code that led to this call; empty if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_MACHINERY):
            return [Place(code.co_filename, frame.f_lineno, code.co_name)]
        frame = frame.f_back  # type: ignore[assignment]
    return []


def error_line(exc: BaseException) -> str:
    """`exc` as one bounded line, `ValueError: no latitude`; untrusted, like the traceback."""
    printed = traceback.TracebackException(type(exc), exc, None)
    text = f"{type(exc).__name__}: {printed}"
    if text.endswith(": "):
        text = type(exc).__name__
    return one_line(text)


def one_line(text: str) -> str:
    """A message from the user's code as one bounded line without secrets; untrusted."""
    text = without_secrets(text)
    line = " ".join(text[: 2 * MAX_LINE_CHARS].split())
    if len(line) > MAX_LINE_CHARS or len(text) > 2 * MAX_LINE_CHARS:
        line = line[: MAX_LINE_CHARS - 1] + "…"
    return encodable(line)


def encodable(text: str) -> str:
    """Escape lone surrogates, which can be neither printed nor stored."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _chain(printed: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    waiting = [printed]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [linked for linked in (part.__cause__, part.__context__) if linked]
        # The members of an exception group, since Python 3.11.
        waiting += getattr(part, "exceptions", None) or []


def _trim(part: traceback.TracebackException, keep_from: str | None) -> None:
    frames = [frame for frame in part.stack if not frame.filename.startswith(_MACHINERY)]
    if keep_from is not None:
        first = next((i for i, frame in enumerate(frames) if frame.filename == keep_from), 0)
        frames = frames[first:]
    part.stack = _ShortStack(frames)


class _ShortStack(traceback.StackSummary):
    def __init__(self, frames: Iterable[traceback.FrameSummary]) -> None:
        super().__init__(frames)

    def format(self, **options: Any) -> list[str]:
        lines = super().format(**options)
        left_out = len(lines) - MAX_FRAMES
        if left_out <= 0:
            return lines
        head = MAX_FRAMES // 3
        return [*lines[:head], f"  [{left_out} more frames]\n", *lines[head + left_out :]]


def _cut(text: str, limit: int) -> str:
    """Keep both ends: the start says where, the end says what."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters ...] {text[-half:]}"
