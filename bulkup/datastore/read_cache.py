"""Keeps what `Updater.get` has read, for handlers that get the same entities a moment later.

Entities that the run has written since are not kept: a handler must not miss what an earlier one
wrote. Writes by others are noticed as for any read: each handler notes the version that it got.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from bulkup.datastore.messages import Pb

MAX_AGE_S = 2.0
"""The longest that handled entities wait for their commit."""

MAX_RESULTS = 5000
MAX_BYTES = 16 * 1024 * 1024


class ReadCache:
    def __init__(self) -> None:
        self.results: dict[bytes, Pb | None] = {}
        """EntityResults by serialized key; None for a missing entity."""
        self._bytes = 0
        self._began = 0.0

    def known(self, keys: Iterable[bytes]) -> dict[bytes, Pb | None]:
        if not self.results:
            return {}
        if time.monotonic() - self._began > MAX_AGE_S:
            self.results.clear()
        return {key: self.results[key] for key in keys if key in self.results}

    def store(self, key: bytes, result: Pb | None) -> None:
        size = 0 if result is None else result.ByteSize()
        if not self.results or len(self.results) >= MAX_RESULTS or self._bytes + size > MAX_BYTES:
            self.results.clear()
            self._bytes, self._began = 0, time.monotonic()
        self.results[key] = result
        self._bytes += size
