"""Errors for results that a handler cannot return. They say what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from bulkup.authoring.user_lines import returned_at
from bulkup.core.places import in_brackets, with_places

_TO_AWAIT = ": what is async in it has not run; write `async def`, and await it there"


def wrong_result(function: Callable[..., Any], result: Any, inside: str) -> TypeError:
    """The error for a function updater. `inside`: the collection that held the result; empty if
    the function returned it directly."""
    what = _shown(result)
    returned = f"returned {inside} that holds {what}" if inside else f"returned {what}"
    if inside == "a generator":
        returned = f"yielded {what}"
    places = returned_at(function, result)
    error = TypeError(
        "an updater function returns an Entity, bulkup.delete(...), a dict of properties to "
        "change, several of these, or None; this one "
        f"{returned}{_instead(result)}{in_brackets(places)}"
    )
    _discard(result)
    return with_places(error, places)


def method_result(updater: Any, result: Any, called: str = "handle_entity") -> TypeError:
    """The error for a class whose handler returns a value.

    A function's result is written; a method's would be silently lost.
    """
    method = getattr(type(updater), called)
    name = type(updater).__name__
    places = returned_at(method, result)
    instead = "; in a class, call self.put or self.delete"
    if inspect.isawaitable(result):
        instead = _TO_AWAIT
        if called == "handle_batch":
            instead = ": call functions that are not async there"
    error = TypeError(
        f"{called} of {name} returned a {type(result).__name__}, which writes nothing{instead}"
        f"{in_brackets(places)}"
    )
    _discard(result)
    return with_places(error, places)


def _shown(result: Any) -> str:
    return str(result) if isinstance(result, bool) else f"a {type(result).__name__}"


def _instead(result: Any) -> str:
    from google.cloud.datastore import Key

    if isinstance(result, bool):
        return ": write `return entity` to write it, `return None` to leave it as it is"
    if inspect.isawaitable(result):
        return _TO_AWAIT
    if isinstance(result, Key):
        return ": write `return bulkup.delete(key)` to delete its entity"
    return ""


def _discard(result: Any) -> None:
    """Close a coroutine, so that Python does not warn that nobody has awaited it."""
    if inspect.iscoroutine(result):
        result.close()
