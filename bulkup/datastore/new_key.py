"""The key of a new entity that a handler has put. Reading its path completes it.

Most handlers never read the id of an entity that they create, so ids are allocated for a whole
batch, just before its commit. A handler that does (`parent["child"] = child.key.id`) must not get
None before that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.cloud.datastore import Key


class NewKey(Key):  # type: ignore[misc]
    """A Key that gets its id from `ask` when its path is read. If `ask` raises, the next read calls
    it again."""

    _ask: Callable[[], int] | None

    @classmethod
    def of(cls, incomplete: Key, ask: Callable[[], int]) -> NewKey:
        key = cls.__new__(cls)
        key.__dict__.update(vars(incomplete), _ask=ask)
        return key

    def _complete(self) -> dict[str, Any]:
        state = self.__dict__
        ask = state["_ask"]
        if ask is not None:
            complete = _plain_key(state).completed_key(ask())
            state.update(vars(complete), _ask=None)
        return state

    # The official class derives everything about the path from these two attributes.

    @property
    def _path(self) -> Any:
        return self._complete()["_path"]

    @property
    def _flat_path(self) -> Any:
        return self._complete()["_flat_path"]

    def __reduce__(self) -> Any:
        """Copies are plain keys."""
        return _plain_key, (dict(self._complete(), _ask=None),)


def _plain_key(state: dict[str, Any]) -> Key:
    """A Key of the official class with the attributes of another key."""
    key = Key.__new__(Key)
    key.__dict__.update((name, value) for name, value in state.items() if name != "_ask")
    return key
