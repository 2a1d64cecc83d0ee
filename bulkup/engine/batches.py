"""A batch: the entities of one commit, a cursor interval of their shard's scan."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.datastore.call_error import CallError
from bulkup.engine.handle import Handled

MAX_COMMIT_BYTES = 2_500_000
"""Two of the largest entities, and room for the marker. The emulators take 4 MiB, the service
10 MiB; but more gets no more done, and of buffers so large the allocator keeps one for each thread
that ever had one: with 3.5 MB a run of entities of 1 MiB took 13 MiB more."""

LEGACY_MAX_WRITES = 20
"""The legacy emulator takes 25 entity groups in a transaction; ours adds a marker and clears 3."""

MAX_BATCH_SIZE = 500


class Limits:
    """How large a commit may be: `entities` in a batch, and writes in a commit unless one entity
    alone has more. Learned from the server's refusals, and kept."""

    def __init__(self, most: int = MAX_BATCH_SIZE) -> None:
        self._most = most
        self.entities = most
        self.bytes = MAX_COMMIT_BYTES

    def pace(self, size: int) -> None:
        """Batches are to be no larger for now."""
        self.entities = min(self._most, size)

    def learn(self, error: CallError) -> bool:
        """The refusal names a limit that was not known; commits will be smaller from now on."""
        if "too many entity groups" in error.details and self._most > LEGACY_MAX_WRITES:
            self._most = LEGACY_MAX_WRITES
            self.pace(self.entities)
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
        self.size = 0
        """Bytes of its mutations."""
        self.as_built = True
        """No entity was handled again: no two write the same key, and it is as large as it was."""
        self.foreign: set[bytes] = set()
        """Keys that handlers of other entities write."""
        self._keys: set[bytes] | None = None

    @property
    def end(self) -> bytes:
        return self.items[-1].cursor if self.items else self.part_start

    def add(self, item: Handled, limits: Limits) -> bool:
        """Take an entity, if one commit could take it along (the first one in any case)."""
        writes = len(item.writes)
        if self.items and (
            self.write_count + writes > limits.entities or self.size + item.size > limits.bytes
        ):
            return False
        self.items.append(item)
        self.write_count += writes
        self.size += item.size
        if self._keys is not None:
            self._keys.update(write.key for write in item.writes)
        return True

    def is_full(self, limits: Limits) -> bool:
        most = limits.entities
        return len(self.items) >= most or self.write_count >= most or self.size >= limits.bytes

    def writes(self, key: bytes) -> bool:
        if self._keys is None:  # most batches are never asked
            self._keys = {write.key for item in self.items for write in item.writes}
        return key in self._keys

    def take(self, limits: Limits, suspects: int) -> Sequence[Handled]:
        """The next span to commit: the carried entities, and as many more as one commit takes.

        With `suspects`, half of so many. One entity is always taken, whatever it weighs. Two
        entities that write the same key are never taken together.
        """
        small = self.write_count <= limits.entities and self.size <= limits.bytes
        if small and self.as_built and not suspects:
            return self.items[:]
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
