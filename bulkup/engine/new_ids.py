"""Ids for new entities whose handler looks at them before the commit that writes them."""

from __future__ import annotations

from typing import Any

from bulkup.datastore.keys import key_bytes
from bulkup.datastore.rpc import Rpc

MAX_PER_CALL = 200
"""Ids to allocate at once for one incomplete key, that is, for one kind under one parent."""
MAX_PATHS = 100
"""Paths to remember. Children of each handled entity have a path of their own, for which no more
ids are needed."""

STAND_IN = 9_000_000_000_000_000
"""A dry run allocates nothing, and shows ids from here: no Datastore allocates such large ones."""


class NewIds:
    """Allocates ids, and more of them at once for a key that is asked for again and again.

    An id that is not used, because the handler raises or is called again, is lost; no two calls get
    the same one.
    """

    def __init__(self, rpc: Rpc | None) -> None:
        self._rpc = rpc
        self._free: dict[bytes, list[Any]] = {}
        self._asked: dict[bytes, int] = {}

    def complete(self, incomplete: Any) -> Any:
        """Return a complete Key message. Raises CallError."""
        if self._rpc is None:
            raise RuntimeError(
                "the id of a new entity is not known before its commit if the updater makes its "
                "own client; keep the client that bulkup sets as self.client, or choose a name"
            )
        path = key_bytes(incomplete)
        free = self._free.get(path)
        if not free:
            if len(self._free) >= MAX_PATHS:
                self._free.clear()
                self._asked.clear()
            wanted = min(MAX_PER_CALL, 2 * self._asked.get(path, 0) or 1)
            free = self._rpc.allocate_ids([incomplete] * wanted)
            self._free[path], self._asked[path] = free, wanted
        return free.pop()
