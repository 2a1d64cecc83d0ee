"""Advice for Python's errors about an `await` that is missing or superfluous."""

from __future__ import annotations


def unawaited(error: BaseException, *, is_async: bool) -> str:
    """The advice to append to a handler's error; empty if it has another cause."""
    text = str(error)
    if "'coroutine' object" in text:
        if is_async:
            return "; an `await` is missing before what is async, such as self.aget(...)"
        return "; await it in an `async def`, or call what is not async: self.get, not self.aget"
    if "can't be used in 'await' expression" in text:
        return "; only what is async is awaited: `await self.aget(...)`, but not self.get or put"
    return ""
