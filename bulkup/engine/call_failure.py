"""Turns a failed handler call into a failure: with what it raised, or with what the server would
say."""

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
    """Raised by bulkup's own updaters for an entity that they must not change. The message says
    why."""


def fail_with(
    updater: Updater, item: Handled, error: BaseException, names: Iterable[str] = ()
) -> None:
    """Turn the entity into a failure. `names`: its properties, one of which may be meant if the
    handler asked for one that it lacks."""
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
