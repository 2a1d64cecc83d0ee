"""Calls the updater's `check_before` and `check_after`, which only read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.running import in_hook
from bulkup.authoring.updater import Updater
from bulkup.core.errors import HeldError, UpdaterError
from bulkup.core.secrets import without_secrets
from bulkup.core.user_traceback import MAX_LINE_CHARS, encodable, error_line, user_traceback
from bulkup.datastore.containment import Containment, contained
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.user_client import CheckClient

Objection = tuple[str, str]
"""Why a check does not hold, worded to follow `check_before of NAME`; and further lines, such as a
traceback."""


def has_check(updater: Updater, name: str) -> bool:
    """Whether the updater has a check of its own: `check_before`, `check_after`, `healthy`."""
    if isinstance(updater, FunctionUpdater):
        return getattr(updater.spec, name) is not None
    return getattr(type(updater), name) is not getattr(Updater, name)


def objection(updater: Updater, name: str, rpc: Rpc) -> Objection | None:
    """Call a check. Returns None if it holds or the updater has none. Raises KeyboardInterrupt,
    HeldError."""
    if not has_check(updater, name):
        return None
    check: Callable[[Any], Any] = getattr(updater, name)
    own_client = updater.client
    updater.client = client = CheckClient.over(rpc, own_client)
    try:
        with in_hook(updater, name), contained(Containment(None, dry_run=True)):
            return read_check(check(client))
    except (KeyboardInterrupt, HeldError):
        raise
    except BaseException as error:
        return f"raised {error_line(error)}", user_traceback(error)
    finally:
        updater.client = own_client


def read_check(result: object) -> Objection | None:
    """What the result of a check means; None if the check holds."""
    if result is None or result is True:
        return None
    if result is False:
        return "returned False", ""
    if isinstance(result, str) and result.strip():
        line = encodable(" ".join(without_secrets(result[: 2 * MAX_LINE_CHARS]).split()))
        if len(line) > MAX_LINE_CHARS:
            line = line[: MAX_LINE_CHARS - 1] + "…"
        return f"failed: {line}", ""
    what = "an empty string" if isinstance(result, str) else f"a {type(result).__name__}"
    return f"returned {what}; return nothing or True if it holds, False or the reason if not", ""


def check_before(updater: Updater, name: str, rpc: Rpc) -> None:
    """Raises UpdaterError unless the updater's `check_before` holds. `name`: the updater's name."""
    found = objection(updater, "check_before", rpc)
    if found is not None:
        raise UpdaterError(
            f"check_before of {name} {found[0]}; nothing was started", details=found[1]
        )
