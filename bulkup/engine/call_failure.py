"""How a failed handler call is told: as what it raised, or as the server would say it."""

from __future__ import annotations

from bulkup.core.limits import LimitError
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.engine.handled import Handled


class LeftAloneError(Exception):
    """Raised by an updater of bulkup's own for an entity that it may not change, and says why."""


def fail_with(item: Handled, error: BaseException) -> None:
    if isinstance(error, LimitError):  # what the server would say, only sooner
        item.fail("write", f"INVALID_ARGUMENT: {error}", user_traceback(error))
    elif isinstance(error, LeftAloneError):
        item.fail("write", str(error))
    else:
        item.fail("handle", error_line(error), user_traceback(error))
