"""A batch: the entities of one commit, a cursor interval of their shard's scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bulkup.engine.handle import Handled
from bulkup.state.markers import WINDOW
from bulkup.wire.retries import CallError

MAX_COMMIT_BYTES = 3_500_000
"""Below the 4 MiB that the emulators take (the service takes 10 MiB), with room for the marker."""

LEGACY_MAX_WRITES = 20
"""The legacy emulator takes 25 entity groups in a transaction; ours adds a marker and clears 3."""

MAX_BATCH_SIZE = 500
DEFAULT_IN_FLIGHT = 4
MAX_IN_FLIGHT = WINDOW


@dataclass
class Limits:
    """How large a commit may be; learned from the server's refusals, and kept."""

    entities: int = MAX_BATCH_SIZE
    """Entities in a batch, and writes in a commit unless one entity alone has more."""
    in_flight: int = DEFAULT_IN_FLIGHT
    bytes: int = MAX_COMMIT_BYTES

    def learn(self, error: CallError) -> bool:
        """The refusal names a limit that was not known; commits will be smaller from now on."""
        if "too many entity groups" in error.details and self.entities > LEGACY_MAX_WRITES:
            self.entities = LEGACY_MAX_WRITES
            return True
        return False


class Batch:
    """Entities in the order of the scan. `items` holds those that are not done yet.

    A batch that the server does not take whole is committed in parts, one after the other.
    """

    def __init__(self, start: bytes) -> None:
        self.items: list[Handled] = []
        self.part_start = start
        """Where the interval of the next part begins."""
        self.number: int | None = None
        self.part = 0
        self.carried = 0
        """Entities at the front that need no commit of their own: they go with the next part."""
        self.clears: list[bytes] = []
        self.write_count = 0
        self._bytes = 0
        self._keys: set[bytes] = set()
        self.foreign: set[bytes] = set()
        """Keys that handlers of other entities write."""

    @property
    def end(self) -> bytes:
        return self.items[-1].cursor if self.items else self.part_start

    def add(self, item: Handled) -> None:
        self.items.append(item)
        self.write_count += len(item.writes)
        self._bytes += item.size
        for write in item.writes:
            self._keys.add(write.key)
            if write.key != item.key:
                self.foreign.add(write.key)

    def has_room(self, item: Handled, limits: Limits) -> bool:
        """One commit could take this entity along. The first one always has room."""
        return not self.items or (
            self.write_count + len(item.writes) <= limits.entities
            and self._bytes + item.size <= limits.bytes
        )

    def is_full(self, limits: Limits) -> bool:
        return (
            len(self.items) >= limits.entities
            or self.write_count >= limits.entities
            or self._bytes >= limits.bytes
        )

    def writes(self, key: bytes) -> bool:
        return key in self._keys

    def take(self, limits: Limits, suspects: int) -> Sequence[Handled]:
        """The next span to commit: the carried entities, and as many more as one commit takes.

        With `suspects`, half of so many. One entity is always taken, whatever it weighs. Two
        entities that write the same key are never taken together.
        """
        most = len(self.items) - self.carried
        if suspects > 1:
            most = min(most, suspects // 2)
        elif suspects:
            most = min(most, 1)
        count = writes = size = 0
        keys: set[bytes] = set()
        for item in self.items[self.carried : self.carried + most]:
            writes += len(item.writes)
            size += item.size
            mine = {w.key for w in item.writes}
            if count and (
                writes > limits.entities or size > limits.bytes or not keys.isdisjoint(mine)
            ):
                break
            keys |= mine
            count += 1
        return self.items[: self.carried + count]

    def part_is_done(self, length: int) -> None:
        self.part_start = self.items[length - 1].cursor
        del self.items[:length]
        self.part += 1
        self.carried = 0
