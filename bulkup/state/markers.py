"""Markers: entities that say that a batch is done, written by the batch's own commit.

A marker's key is determined by (run, shard, batch, part), and the marker is *inserted*. So of all
copies of a commit, retried or late, only one can be applied. A *fence* is a marker without a batch:
a runner that takes over inserts one under every key for which the former runner may have a commit
in flight. A commit that has not arrived by then can no longer be applied.

Everything here is raw protobuf. The engine decides when to write markers and when to remove them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from bulkup.core.model import Counts
from bulkup.datastore.messages import KeyPb, Mutation
from bulkup.datastore.queries import Filter, kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import MARKER_KIND

LATE_COPY_S = 600.0
"""An unanswered commit may still be applied for this long. Measured: 4 s after a lock of 60 s;
no server or proxy is documented to hold a request longer than minutes."""

WINDOW = 32
"""The most batches of a shard that are ever in flight. So many fences stop a former runner."""

REMOVED_PER_COMMIT = 20
"""Below the 25 entity groups that the legacy emulator accepts in a transaction."""

REMOVING = 10
"""How many of these commits are in flight at once."""

_QUERY_PAGE = 300


@dataclass(frozen=True)
class Marker:
    shard: int
    number: int
    part: int
    runner: str
    """Unique for each process that works on a run."""
    start: bytes
    end: bytes
    whole_end: bytes
    low: int
    """The low-water mark when the marker was sent: every batch up to this number was done."""
    counts: Counts
    """The counts of this batch or part."""
    before: Counts = field(default_factory=Counts)
    """The shard's counts up to `low`."""
    fence: bool = False


class Markers:
    """The markers of one run in one namespace."""

    def __init__(self, rpc: Rpc, namespace: str, run_id: str) -> None:
        self._rpc = rpc
        self._namespace = namespace
        self._run_id = run_id

    def key(self, shard: int, number: int, part: int) -> Any:
        return self._key(f"{self._run_id}/{shard:06d}/{number:09d}/{part:04d}")

    def _key(self, name: str) -> Any:
        key = KeyPb()
        key.partition_id.project_id = self._rpc.project
        key.partition_id.database_id = self._rpc.database
        key.partition_id.namespace_id = self._namespace
        key.path.add(kind=MARKER_KIND, name=name)
        return key

    def insert(self, marker: Marker) -> bytes:
        """The serialized mutation that goes into the batch's commit."""
        mutation = Mutation()
        entity = mutation.insert
        entity.key.CopyFrom(self.key(marker.shard, marker.number, marker.part))
        facts = json.dumps(
            {
                "low": marker.low,
                "fence": marker.fence,
                "counts": asdict(marker.counts),
                "before": asdict(marker.before),
            }
        )
        for name, text in (("runner", marker.runner), ("facts", facts)):
            value = entity.properties[name]
            value.string_value = text
            value.exclude_from_indexes = True
        for name, blob in (
            ("start", marker.start), ("end", marker.end), ("whole_end", marker.whole_end)
        ):  # fmt: skip
            value = entity.properties[name]
            value.blob_value = blob
            value.exclude_from_indexes = True
        serialized: bytes = mutation.SerializeToString()
        return serialized

    def clear(self, key: bytes) -> bytes:
        """The serialized mutation that removes a marker, by its serialized key."""
        mutation = Mutation()
        mutation.delete.ParseFromString(key)
        serialized: bytes = mutation.SerializeToString()
        return serialized

    def read(self, shard: int, number: int, part: int) -> Marker | None:
        """Look one marker up, strongly consistent. Raises CallError."""
        for result in self._rpc.lookup([self.key(shard, number, part)]).values():
            return _parse(result.entity)
        return None

    def of_shard(self, shard: int) -> Iterator[Marker]:
        """All markers of a shard, by number and part. Raises CallError."""
        for result in self._under(f"{self._run_id}/{shard:06d}"):
            yield _parse(result.entity)

    def all_keys(self) -> Iterator[bytes]:
        """The serialized keys of all markers and notes of the run. Raises CallError."""
        for result in self._under(self._run_id, keys_only=True):
            yield result.entity.key.SerializeToString(deterministic=True)

    def remove(self, keys: Iterable[bytes]) -> None:
        """Remove markers by their serialized keys. Raises CallError."""
        rest = map(self.clear, keys)
        while clears := list(islice(rest, REMOVED_PER_COMMIT * REMOVING)):
            calls = [
                self._rpc.commit(clears[start : start + REMOVED_PER_COMMIT])
                for start in range(0, len(clears), REMOVED_PER_COMMIT)
            ]
            for call in calls:
                call.result()

    def _under(self, prefix: str, *, keys_only: bool = False) -> Iterator[Any]:
        filters = (
            Filter("__key__", "GREATER_THAN", self._key(f"{prefix}/")),
            Filter("__key__", "LESS_THAN", self._key(f"{prefix}0")),
        )
        query = kind_query(MARKER_KIND, filters, keys_only=keys_only, limit=_QUERY_PAGE)
        return self._rpc.results(query, self._namespace)


def _parse(entity: Any) -> Marker:
    _, shard, number, part = entity.key.path[-1].name.rsplit("/", 3)
    properties = entity.properties
    facts = json.loads(properties["facts"].string_value)
    return Marker(
        shard=int(shard),
        number=int(number),
        part=int(part),
        runner=properties["runner"].string_value,
        start=properties["start"].blob_value,
        end=properties["end"].blob_value,
        whole_end=properties["whole_end"].blob_value,
        low=int(facts["low"]),
        counts=Counts(**facts["counts"]),
        before=Counts(**facts["before"]),
        fence=bool(facts["fence"]),
    )
