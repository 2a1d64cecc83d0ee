"""A batch: the entities of one commit, a cursor interval of their shard's scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.reads import marks_of
from bulkup.engine.handled import Handled, written

MAX_COMMIT_BYTES = 2_500_000
"""Two of the largest entities, and room for the marker. The emulators accept 4 MiB, the service
10 MiB; but larger commits are no faster, and the allocator keeps a buffer of that size for each
thread that ever had one: with 3.5 MB a run of 1 MiB entities took 13 MiB more."""

LEGACY_MAX_WRITES = 20
"""The legacy emulator accepts 25 entity groups in a transaction; a commit of ours also inserts a
marker and perhaps a note, and clears 3 markers."""

MAX_BATCH_SIZE = 500


class BatchLimits:
    """How large a batch and its commit may be. Learned from the server's refusals, and kept.

    `entities` limits the entities of a batch and the writes of a commit. An entity that alone has
    more writes still gets a commit.
    """

    def __init__(self, most: int = MAX_BATCH_SIZE) -> None:
        self._most = MAX_BATCH_SIZE
        self.entities = most
        self.bytes = MAX_COMMIT_BYTES

    def set_batch_size(self, size: int) -> None:
        self.entities = min(self._most, size)

    def learn(self, error: CallError) -> bool:
        """Lower the limits if the refusal shows that the server's are lower. Returns whether."""
        if "too many entity groups" in error.details and self._most > LEGACY_MAX_WRITES:
            self._most = LEGACY_MAX_WRITES
            self.set_batch_size(self.entities)
            return True
        return False


class Batch:
    """Entities in the order of the scan. `items` holds those that are not done yet.

    A batch that the server does not accept whole is committed in parts, one after the other.
    """

    def __init__(self, start: bytes) -> None:
        self.items: list[Handled] = []
        self.part_start = start
        """Where the interval of the next part begins."""
        self.number: int | None = None
        self.part = 0
        self.carried = 0
        """Entities at the front that need no commit of their own: the next part includes them."""
        self.clears: list[bytes] = []
        """Keys of markers that the next commit removes."""
        self.write_count = 0
        self.size = 0
        """Bytes of its mutations."""
        self.as_built = True
        """No entity was handled again, so no two entities write the same key, and the size is
        unchanged."""
        self.foreign: set[bytes] = set()
        """Keys that handlers of other entities write, or wrote before these handlers were called
        again."""
        self._marks: set[bytes] | None = None

    @property
    def end(self) -> bytes:
        return self.items[-1].cursor if self.items else self.part_start

    @property
    def needs_commit(self) -> bool:
        """It writes something, or has a failure or a log line to record."""
        return bool(self.write_count) or any(
            item.failure is not None or item.log_lines for item in self.items
        )

    def add(self, item: Handled, limits: BatchLimits) -> bool:
        """Add an entity if the same commit can take it too; returns whether it can. The first one
        always fits."""
        writes = len(item.writes)
        if self.items and (
            self.write_count + writes > limits.entities or self.size + item.size > limits.bytes
        ):
            return False
        self.items.append(item)
        self.write_count += writes
        self.size += item.size
        if self._marks is not None:
            self._marks.update(marks_written(item))
        return True

    def is_full(self, limits: BatchLimits) -> bool:
        most = limits.entities
        return len(self.items) >= most or self.write_count >= most or self.size >= limits.bytes

    @property
    def marks(self) -> set[bytes]:
        """What it writes: keys, and the marks of queries that may find them."""
        if self._marks is None:  # most batches are never asked
            self._marks = {mark for item in self.items for mark in marks_written(item)}
        return self._marks

    def next_span(self, limits: BatchLimits, suspects: int) -> Sequence[Handled]:
        """The next entities to commit: the carried ones, and as many more as one commit takes.

        `suspects`: how many entities at the front include one that the server refuses; half of them
        are taken. At least one entity is taken, however large. Two that write the same key are
        never taken together.
        """
        small = self.write_count <= limits.entities and self.size <= limits.bytes
        if small and self.as_built and not suspects:
            return self.items[:]
        most = len(self.items) - self.carried
        if suspects:
            most = min(most, max(1, suspects // 2))
        count = writes = size = 0
        keys: set[bytes] = set()
        for item in self.items[self.carried : self.carried + most]:
            writes += len(item.writes)
            size += item.size
            item_keys = {w.key for w in item.writes}
            if count and (
                writes > limits.entities or size > limits.bytes or not keys.isdisjoint(item_keys)
            ):
                break
            keys |= item_keys
            count += 1
        return self.items[: self.carried + count]

    def drop_done(self, length: int) -> None:
        """Remove the first `length` entities, which are done."""
        self.part_start = self.items[length - 1].cursor
        del self.items[:length]
        self.part += 1
        self.carried = 0


def marks_written(item: Handled) -> Iterator[bytes]:
    """The marks of what an entity's handler writes."""
    for write in item.writes:
        yield from marks_of(key_bytes(written(write).key) if write.incomplete else write.key)
