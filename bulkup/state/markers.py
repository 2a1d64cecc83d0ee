"""Markers: entities that say that a batch is done, written by the batch's own commit.

A marker's key is determined by (run, shard, batch, part), and the marker is *inserted*. So of all
copies of a commit, retried or late, only one can be applied. A *fence* is a marker without a batch:
a runner that takes over inserts one under every key for which the former runner may have a commit
in flight. A commit that has not arrived by then can no longer be applied.

Everything here is raw protobuf. The engine decides when to write markers and when to remove them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bulkup.core.errors import StateError
from bulkup.core.model import Counts
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import KeyPb, Mutation
from bulkup.datastore.queries import Filter, kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import MARKER_KIND
from bulkup.state.seals import guarded_delete

LATE_COPY_S = 600.0
"""An unanswered commit may still be applied for this long. Measured: 4 s after a lock of 60 s;
no server or proxy is documented to hold a request longer than minutes."""

WINDOW = 32
"""At most this many batches of a shard are in flight, so this many fences stop a former runner."""

REMOVED_PER_COMMIT = 20
"""Below the 25 entity groups that the legacy emulator accepts in a transaction."""

REMOVING = 10
"""How many commits that remove markers are in flight at once."""

_QUERY_PAGE = 300

NOTES_PER_PAGE = 16
"""A page then has at most 4 MiB (`state/notes.py`)."""


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
                "counts": marker.counts.stored(),
                "before": marker.before.stored(),
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
        """The serialized mutation that removes a marker, by its serialized key.

        It has no version, so only use it in a commit whose late copies are refused.
        """
        mutation = Mutation()
        mutation.delete.ParseFromString(key)
        serialized: bytes = mutation.SerializeToString()
        return serialized

    def read(self, shard: int, number: int, part: int) -> Marker | None:
        """Look up one marker, with strong consistency. Raises CallError."""
        for result in self._rpc.lookup([self.key(shard, number, part)]).values():
            return _parse(result.entity)
        return None

    def of_shard(self, shard: int) -> Iterator[Marker]:
        """All markers of a shard, by number and part. Raises CallError."""
        for result in self._under(f"{self._run_id}/{shard:06d}"):
            yield _parse(result.entity)

    def of_run(self) -> Iterator[Marker]:
        """All markers of the run. Raises CallError."""
        for result in self._all():
            yield _parse(result.entity)

    def exist(self) -> bool:
        """Whether the run has a marker or a note. Raises CallError."""
        return next(self._between(f"{self._run_id}/", f"{self._run_id}0", 1), None) is not None

    def remove_all(self) -> None:
        """Remove all markers of the run, and its notes. Raises CallError."""
        self._remove(_versions_of(self._all()))
        notes = self._between(f"{self._run_id}/note/", f"{self._run_id}/note0", NOTES_PER_PAGE)
        while page := _versions_of(islice(notes, NOTES_PER_PAGE)):  # they may be large
            self._remove(page)

    def remove_of_ranges(self, prefix: str) -> None:
        """Remove all markers and notes of the run's ranges, whose ids begin with `prefix`. Raises
        CallError."""
        found = self._between(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1), NOTES_PER_PAGE)
        while page := _versions_of(islice(found, REMOVED_PER_COMMIT * REMOVING)):
            self._remove(page)

    def remove(self, keys: Sequence[bytes]) -> None:
        """Remove markers by their serialized keys, where they are still there. Raises CallError."""
        self._remove(self._versions(keys))

    def _versions(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        found = self._rpc.lookup([KeyPb.FromString(key) for key in keys])
        return {key: result.version for key, result in found.items()}

    def _remove(self, versions: Mapping[bytes, int]) -> None:
        there = list(versions.items())
        some = REMOVED_PER_COMMIT * REMOVING
        for first in range(0, len(there), some):
            chunks = [
                dict(there[start : start + REMOVED_PER_COMMIT])
                for start in range(first, min(first + some, len(there)), REMOVED_PER_COMMIT)
            ]
            calls = [(chunk, self._rpc.commit(_removals(chunk))) for chunk in chunks]
            for chunk, call in calls:
                try:
                    call.result()
                except CallError as error:
                    left = self._versions(chunk) if error.is_conflict else chunk
                    if left == chunk:
                        raise
                    self._remove(left)  # another process, or an earlier copy, has removed some

    def _under(self, prefix: str) -> Iterator[Any]:
        return self._between(f"{prefix}/", f"{prefix}0", _QUERY_PAGE)

    def _all(self) -> Iterator[Any]:
        """The run's markers without its notes, whose names sort after all numbers."""
        return self._between(f"{self._run_id}/", f"{self._run_id}/:", _QUERY_PAGE)

    def _between(self, after: str, before: str, page: int) -> Iterator[Any]:
        filters = (
            Filter("__key__", "GREATER_THAN", self._key(after)),
            Filter("__key__", "LESS_THAN", self._key(before)),
        )
        return self._rpc.results(kind_query(MARKER_KIND, filters, limit=page), self._namespace)


def _versions_of(results: Iterable[Any]) -> dict[bytes, int]:
    return {
        result.entity.key.SerializeToString(deterministic=True): result.version
        for result in results
    }


def _removals(versions: Mapping[bytes, int]) -> list[bytes]:
    return [
        guarded_delete(KeyPb.FromString(key), version).SerializeToString()
        for key, version in versions.items()
    ]


def _parse(entity: Any) -> Marker:
    try:
        return _marker(entity)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"the marker {key_text(entity.key)} was not written by bulkup, or by another version; "
            "delete it if you are certain that it is not bulkup's, otherwise resume the run with "
            "the version that began it",
            details=f"{type(error).__name__}: {error}",
        ) from error


def _marker(entity: Any) -> Marker:
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
