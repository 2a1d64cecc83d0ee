"""An updater's `is_done`, which says whether an entity is already as the updater leaves it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError


def acceptance_of(updater: Updater, name: str) -> Callable[[Any], Any] | None:
    """The updater's `is_done` as a function of an entity; None if it has none.

    The `is_done` of a decorated function gets the parameters that it accepts. `name`: the updater's
    name. Raises UsageError if `is_done` cannot be called or its result would always be true.
    """
    if isinstance(updater, FunctionUpdater):
        is_done: Any = updater.spec.is_done
        if is_done is None:
            return None
    elif type(updater).is_done is Updater.is_done:
        return None
    else:
        is_done = updater.is_done
    if not callable(is_done):
        raise UsageError(
            f"is_done of {name} is {is_done!r:.80}; make it a method that takes an entity and "
            "returns True or False, or give it another name"
        )
    plain = inspect.unwrap(is_done)
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise UsageError(f"is_done of {name} is async, which bulkup does not support; use def")
    if inspect.isgeneratorfunction(plain):
        raise UsageError(f"is_done of {name} yields; return True or False")
    if not isinstance(updater, FunctionUpdater):
        return is_done  # type: ignore[no-any-return]
    takes = inspect.signature(is_done).parameters
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    wanted = {n: v for n, v in updater.arguments.items() if takes_all or n in takes}
    return partial(is_done, **wanted)
