"""How a failed handler call is told: as what it raised, or as the server would say it."""

from __future__ import annotations

from bulkup.authoring.updater import Updater
from bulkup.authoring.user_lines import blame
from bulkup.core.limits import LimitError
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.engine.handled import Handled


class LeftAloneError(Exception):
    """Raised by an updater of bulkup's own for an entity that it may not change, and says why."""


def fail_with(updater: Updater, item: Handled, error: BaseException) -> None:
    where = blame(updater, error)
    if isinstance(error, LimitError):  # what the server would say, only sooner
        item.fail("write", f"INVALID_ARGUMENT: {error}{where}", user_traceback(error))
    elif isinstance(error, LeftAloneError):
        item.fail("write", str(error))
    else:
        item.fail("handle", error_line(error) + where, user_traceback(error))
