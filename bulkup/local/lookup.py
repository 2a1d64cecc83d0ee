"""Lookup: entities by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bulkup.local import messages as m
from bulkup.local.encoding import Partition
from bulkup.local.limits import MAX_LOOKUP_KEYS, checked_place, partition_of
from bulkup.local.masks import Mask
from bulkup.local.pending import Place, State
from bulkup.local.query_page import PAGE_BYTES
from bulkup.local.read_options import Read, ReadClock, reads_present
from bulkup.local.sql import by_paths
from bulkup.local.status import invalid
from bulkup.local.storage import LookedUp, Snapshot, Storage

_MISSING = State(0, 0, None)


class _Key(NamedTuple):
    partition: Partition
    kind: str
    path: bytes
    message: Any


def run_lookup(request: Any, storage: Storage, clock: ReadClock) -> bytes:
    """The serialized LookupResponse."""
    keys = _keys(request)
    mask = Mask(request.property_mask.paths) if request.HasField("property_mask") else None
    places: list[Place] = []

    def placed() -> list[Place]:
        # Only inside a snapshot is it certain which kinds exist.
        places.extend(_places(storage, keys))
        return places

    # Reading the past needs the rows; pending states hold only the present.
    present = reads_present(request.read_options)
    with storage.reading_keys(placed) if present else storage.reading() as snapshot:
        read = clock.read(request.read_options, snapshot)
        if not places:
            placed()
        response = _Response(read, mask)
        for key, state in zip(keys, _states(snapshot, places, read), strict=False):
            response.add(key, state)
            if response.size > PAGE_BYTES:
                break
        response.defer(keys[response.count :])
        if read.transaction is not None:
            for key in keys[: response.count]:
                read.transaction.read_key(key.partition, key.kind, key.path)
    if present:
        states = dict(zip(places, response.states, strict=False))
        storage.last_lookup = LookedUp(snapshot.last, states)
    return response.serialize()


def _keys(request: Any) -> list[_Key]:
    """The keys of a request, each once."""
    if len(request.keys) > MAX_LOOKUP_KEYS:
        raise invalid(
            f"cannot get more than {MAX_LOOKUP_KEYS} keys in a single call: {len(request.keys)}"
        )
    project, database = request.project_id, request.database_id
    keys: dict[tuple[str, bytes], _Key] = {}
    for message in request.keys:
        path, kind = checked_place(message, complete=True, reserved_ok=True)
        partition = partition_of(message.partition_id, project, database)
        keys[partition.namespace, path] = _Key(partition, kind, path, message)
    return list(keys.values())


def _places(storage: Storage, keys: Iterable[_Key]) -> Iterator[Place]:
    """The place of each key. A kind that does not exist has the number 0."""
    numbers: dict[tuple[Partition, str], int] = {}
    number, last_partition, last_kind = 0, None, None
    for partition, kind, path, _ in keys:
        if kind is not last_kind or partition is not last_partition:
            last_partition, last_kind = partition, kind
            if (partition, kind) not in numbers:
                numbers[partition, kind] = storage.catalog.kind(partition, kind) or 0
            number = numbers[partition, kind]
        yield number, path


def _states(
    snapshot: Snapshot, places: list[Place], read: Read
) -> Iterator[tuple[int, int, bytes | None]]:
    """(version, created, body) of each place; only a few are in memory at a time."""
    pending = snapshot.pending
    asked = [place for place in places if place not in pending] if pending else places
    rows = by_paths(snapshot.db, asked, read.at)
    for place in places:
        yield pending.get(place) or next(rows) or _MISSING


class _Response:
    """Collects a LookupResponse."""

    def __init__(self, read: Read, mask: Mask | None) -> None:
        self._read = read
        self._mask = mask
        self._pieces: list[bytes] = []
        self.states: list[tuple[int, int, bytes | None]] = []
        self.size = 0

    @property
    def count(self) -> int:
        return len(self.states)

    def add(self, key: _Key, state: tuple[int, int, bytes | None]) -> None:
        self.states.append(state)
        version, created, body = state
        if body is None:
            key.message.partition_id.project_id = key.partition.project
            result = m.field(1, m.field(1, key.message.SerializeToString()))
            result += m.number_field(4, self._read.time)
            self._pieces.append(m.field(2, result))
            self.size += len(result)
            return
        if self._mask is not None:
            body = self._mask.select(m.Entity.FromString(body)).SerializeToString()
        self.size += m.add_found(self._pieces, body, version, created)

    def defer(self, keys: Iterable[_Key]) -> None:
        """Add the keys that the response has no room for. The official clients ask for them
        again."""
        self._pieces += [m.field(3, key.message.SerializeToString()) for key in keys]

    def serialize(self) -> bytes:
        self._pieces.append(self._read.started_field())
        if self._read.time:
            self._pieces.append(m.field(7, m.timestamp(self._read.time)))
        return b"".join(self._pieces)
