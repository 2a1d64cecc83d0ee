"""Removes bulkup's own frames from errors in a test, so that they end at the user's line."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from bulkup.core.errors import BulkupError
from bulkup.core.user_traceback import BULKUP

P = ParamSpec("P")
R = TypeVar("R")


def without_own_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function so that tracebacks of its exceptions show none of bulkup's frames."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except BulkupError as error:
            if error.details:
                error.add_note(error.details)
            raise error.with_traceback(None) from None
        except Exception as error:
            error.__traceback__ = _users(error.__traceback__)
            raise

    return call


def _users(trace: TracebackType | None) -> TracebackType | None:
    """The frames of a traceback that are not bulkup's."""
    kept: TracebackType | None = None
    for frame, line in reversed([*traceback.walk_tb(trace)]):
        if not frame.f_code.co_filename.startswith(BULKUP):
            kept = TracebackType(kept, frame, frame.f_lasti, line)
    return kept
