"""How a failed handler call is told: as what it raised, or as the server would say it."""

from __future__ import annotations

from collections.abc import Iterable

from bulkup.authoring.unawaited import unawaited
from bulkup.authoring.updater import Updater
from bulkup.authoring.user_lines import blame
from bulkup.core.limits import LimitError
from bulkup.core.meant import error_with_hint
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.engine.handled import Handled


class LeftAloneError(Exception):
    """Raised by an updater of bulkup's own for an entity that it may not change, and says why."""


def fail_with(
    updater: Updater, item: Handled, error: BaseException, names: Iterable[str] = ()
) -> None:
    """`names`: the properties of the entity, one of which may be meant by one that it lacks."""
    where = blame(updater, error)
    if isinstance(error, LimitError):  # what the server would say, only sooner
        item.fail("write", f"INVALID_ARGUMENT: {error}{where}", user_traceback(error))
    elif isinstance(error, LeftAloneError):
        item.fail("write", str(error))
    else:
        line = error_line(error)
        if isinstance(error, KeyError):
            line = error_with_hint(line, names)
        elif isinstance(error, (TypeError, AttributeError)):
            line += unawaited(error, is_async=updater._is_async)
        item.fail("handle", line + where, user_traceback(error))
