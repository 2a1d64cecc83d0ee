"""The ledger: one run record per run, in Datastore, with the lease of the runner at work.

The record outlives runners, machines and their disks. It says who works on a run, until when
nobody else may (the lease), and into which shards the run is cut: with the markers that is enough
to go on anywhere. Every change of it is guarded by the version that was read, so of two who
change it at once one is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.core.errors import StateError
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import Origin, RunInfo, Shard
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_text, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import Mutation
from bulkup.datastore.queries import Filter, kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.value_codec import write_entity
from bulkup.state.kinds import CLAIM_KIND, RUN_KIND

LEASE_S = 60.0
"""A runner that was not heard of for so long may be replaced."""

RENEW_S = 15.0
"""How often a runner at work is heard of: three renewals may be lost."""

_INDEXED = frozenset({"updater", "state", "started", "identity", "open", "sweep_at", "migration"})


@dataclass(frozen=True)
class Holder:
    """The process that works, or worked, on a run."""

    runner: str
    """Unique for each process."""
    who: str
    """user@host, for people."""
    machine: str
    """Host and boot: where process ids mean something."""
    pid: int
    began: str
    """When that process began, as its system says it; process ids are used again."""


@dataclass(frozen=True)
class RunRecord:
    """A run record as it was read or written. `version` 0: not in Datastore yet."""

    run_info: RunInfo
    state: RunState
    reason: str = ""
    counts: Counts = field(default_factory=Counts)
    """As of the last renewal."""
    holder: Holder | None = None
    lease_until: int = 0
    """Unix time; 0: nobody works on the run."""
    generation: int = 0
    """Grows with each runner."""
    shards: tuple[Shard, ...] = field(default_factory=lambda: (Shard(1),))
    next_shard: int = 2
    settled: Counts = field(default_factory=Counts)
    """What was done of the run outside of these shards."""
    fenced_until: int = 0
    """Unix time before which a marker of a former runner may still be needed."""
    sweep_at: int = 0
    """Unix time from which the markers left by the finished run may go; 0: none are left."""
    moved_in: str = ""
    """The run changes what its query orders or ranges on; only the checkpoint with this id knows
    which entities are done."""
    keep: bool = True
    """False: the record goes too, once the run is finished and swept."""
    ended: int = 0
    migration: str = ""
    """The name of the migration that the run applies; empty: it is none."""
    code: str = ""
    """Checksum of the migration's code, without comments and layout."""
    marked: str = ""
    """By whom the state was set by hand (`bulkup mark`); empty: it came by running."""
    origin: Origin = field(default_factory=Origin)
    """Of the last runner; kept for migrations."""
    chain: tuple[str, ...] = ()
    """Of a successor: how it is found, link by link, from the folder of the first updater."""
    work: str = ""
    """Of a successor: the identity of its own query; its `identity` is the first run's."""
    warm: tuple[float, ...] = ()
    """What traffic Datastore is ready for (engine/throttle/rate.py); empty: not known."""
    version: int = 0

    def is_held(self, now: float) -> bool:
        return self.holder is not None and self.lease_until > now


class RecordMovedOn(Exception):
    """The record is not what it was when it was read: somebody else has changed it."""


class Ledger:
    """The run records of one target."""

    def __init__(self, rpc: Rpc, target: TargetInfo) -> None:
        self._rpc = rpc
        self._target = target

    def read(self, run_id: str) -> RunRecord | None:
        """Raises CallError."""
        for result in self._rpc.lookup([self._raw_key(run_id)]).values():
            return self._parse(result.entity, result.version)
        return None

    def read_in(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], RunRecord]:
        """Records by namespace and run id, whatever the ledger's own namespace is; those that are
        not there are left out. Raises CallError."""
        keys = {}
        for namespace, run_id in places:
            raw = key_to_pb(self._key(RUN_KIND, run_id, namespace))
            keys[raw.SerializeToString(deterministic=True)] = raw, (namespace, run_id)
        found = self._rpc.lookup([raw for raw, _ in keys.values()])
        return {
            keys[key][1]: self._parse(result.entity, result.version)
            for key, result in found.items()
        }

    def unfinished(self, identity: str) -> RunRecord | None:
        """The unfinished run of the same updater, parameters and query. Raises CallError."""
        run_id = self._claimed_by(identity)
        record = self.read(run_id) if run_id else None
        if run_id and (record is None or record.state.is_over):
            self.release(identity, run_id)  # its record was removed by hand
            return None
        return record

    def release(self, identity: str, run_id: str) -> None:
        """Remove the claim of a run that has no record (any more). Raises CallError."""
        if self._claimed_by(identity) == run_id:
            self._rpc.commit([self._drop_claim(identity).SerializeToString()]).result()

    def _claimed_by(self, identity: str) -> str:
        key = self._key(CLAIM_KIND, identity)
        for result in self._rpc.lookup([key_to_pb(key)]).values():
            return str(LazyEntity(result.entity)["run"])
        return ""

    def _drop_claim(self, identity: str) -> Any:
        mutation = Mutation()
        mutation.delete.CopyFrom(key_to_pb(self._key(CLAIM_KIND, identity)))
        return mutation

    def open_runs_of(self, updater: str) -> Iterator[RunRecord]:
        """Unfinished runs of updaters of this name, asked for at once; raises CallError when the
        first is taken."""
        return self._query(Filter("updater", "EQUAL", updater), Filter("open", "EQUAL", True))

    def to_sweep(self, now: float) -> Iterator[RunRecord]:
        """Finished runs whose last markers may be removed by now, asked for at once; raises
        CallError when the first is taken."""
        return self._query(Filter("sweep_at", "LESS_THAN_OR_EQUAL", _time(now)))

    def migrations(self) -> list[RunRecord]:
        """The records of all migrations, applied or not. Raises CallError."""
        return list(self._query(Filter("migration", "GREATER_THAN", "")))

    def write(
        self,
        record: RunRecord,
        *,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> RunRecord:
        """Write a record over the version it was read at, or anew; gives it with its new version.

        A new one claims its work, so of two that begin the same one is refused. `over`: this
        write ends the run, and the claim with it; or `successor`, a new one, is written by the
        same commit and has the claim from then on. `along`: serialized mutations of that commit,
        of entities that nobody has to know of any more once the record is written.

        An answer that was lost is found out: what is there and equal to what was sent is ours.
        Raises RecordMovedOn when somebody was faster, CallError.
        """
        call = self.begin_write(
            record, over=over, successor=successor, extra_mutations=extra_mutations
        )
        return self.end_sure_write(record, call)

    def end_sure_write(self, record: RunRecord, call: Call[Any]) -> RunRecord:
        """The entry of a write that was begun, sent again where that helps; see `write`."""
        try:
            answer = call.result()
        except CallError as error:
            if not (error.is_conflict or error.already_exists):
                raise
            there = self.read(record.run_info.run_id)
            if there is not None and replace(there, version=record.version) == record:
                return there
            raise RecordMovedOn from error
        return _written(record, answer)

    def begin_write(
        self,
        record: RunRecord,
        *,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> Call[Any]:
        entity = self._entity(record)
        mutation = Mutation()
        mutations = [mutation]
        if record.version:
            write_entity(mutation.update, entity)
            mutation.base_version = record.version
            mutation.conflict_resolution_strategy = Mutation.FAIL
        else:
            write_entity(mutation.insert, entity)
            if not over:
                claim = Mutation()
                write_entity(claim.insert, self._claim(record))
                mutations.append(claim)
        if successor is not None:
            passed, begun = Mutation(), Mutation()
            write_entity(passed.upsert, self._claim(successor))
            write_entity(begun.insert, self._entity(successor))
            mutations += [passed, begun]
        elif over and record.version:
            mutations.append(self._drop_claim(record.run_info.identity))
        return self._rpc.commit([*(m.SerializeToString() for m in mutations), *extra_mutations])

    def _claim(self, record: RunRecord) -> Entity:
        key = self._key(CLAIM_KIND, record.run_info.identity)
        claim = Entity(key, exclude_from_indexes=("run",))
        claim["run"] = record.run_info.run_id
        return claim

    def end_write(self, record: RunRecord, call: Call[Any]) -> RunRecord:
        """The entry of a write that has been answered at its first attempt.

        Raises RecordMovedOn, CallError.
        """
        try:
            answer = call.first_answer()
        except CallError as error:
            if error.is_conflict or error.already_exists:
                raise RecordMovedOn from error
            raise
        return _written(record, answer)

    def remove(self, record: RunRecord) -> None:
        """Remove a record, whoever has changed it. Raises CallError."""
        mutation = Mutation()
        mutation.delete.CopyFrom(self._raw_key(record.run_info.run_id))
        try:
            self._rpc.commit([mutation.SerializeToString()]).result()
        except CallError as error:
            if error.not_found:
                return
            raise

    def _key(self, kind: str, name: str, namespace: str | None = None) -> Key:
        return Key(
            kind,
            name,
            project=self._target.project,
            database=self._target.database or None,
            namespace=(self._target.namespace if namespace is None else namespace) or None,
        )

    def _raw_key(self, run_id: str) -> Any:
        return key_to_pb(self._key(RUN_KIND, run_id))

    def _query(self, *filters: Filter) -> Iterator[RunRecord]:
        """The first page is asked for before this returns."""
        results = self._rpc.results(kind_query(RUN_KIND, filters), self._target.namespace)
        return (self._parse(result.entity, result.version) for result in results)

    def _entity(self, record: RunRecord) -> Entity:
        run_info = record.run_info
        facts: dict[str, Any] = {
            # What people read in the console of their cloud.
            "updater": run_info.updater,
            "description": run_info.description,
            "state": record.state.value,
            "reason": record.reason,
            "who": record.holder.who if record.holder else "",
            "started": datetime.fromisoformat(run_info.created),
            "ended": _time(record.ended) if record.ended else None,
            "parameters": json.dumps(run_info.params),
            "counts": json.dumps(asdict(record.counts)),
            "lease_until": _time(record.lease_until) if record.lease_until else None,
            # What the next runner reads.
            "identity": run_info.identity,
            "open": not record.state.is_over,
            "record": json.dumps(asdict(run_info)),
            "holder": json.dumps(asdict(record.holder)) if record.holder else "",
            "generation": record.generation,
            "shards": json.dumps([_shard_to_json(shard) for shard in record.shards]),
            "next_shard": record.next_shard,
            "settled": json.dumps(asdict(record.settled)),
            "fenced_until": record.fenced_until,
            "moved_in": record.moved_in,
            "keep": record.keep,
        }
        if record.sweep_at:
            facts["sweep_at"] = _time(record.sweep_at)
        if record.warm:
            facts["warm"] = json.dumps(record.warm)
        if record.chain:
            facts |= {"chain": json.dumps(record.chain), "work": record.work}
        if record.migration:
            facts |= {
                "migration": record.migration,
                "code": record.code,
                "marked": record.marked,
                "bulkup_version": record.origin.version,
                "ci_job": record.origin.ci_job,
                "git_commit": record.origin.git_commit,
                "seconds": _seconds(record),
            }
        entity = Entity(
            self._key(RUN_KIND, run_info.run_id), exclude_from_indexes=tuple(set(facts) - _INDEXED)
        )
        entity.update(facts)
        return entity

    def _parse(self, pb: Any, version: int) -> RunRecord:
        """Raises StateError for a record of another version of bulkup."""
        try:
            return self._record(pb, version)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"the run record {key_text(pb.key)} was written by another version of bulkup: run "
                "that version, or delete the record if its run does not matter any more",
                details=f"{type(error).__name__}: {error}",
            ) from error

    def _record(self, pb: Any, version: int) -> RunRecord:
        entity = LazyEntity(pb, version)
        run_info = json.loads(entity["record"])
        run_info["target"] = TargetInfo(**run_info["target"])
        holder = entity["holder"]
        return RunRecord(
            run_info=RunInfo(**run_info),
            state=RunState(entity["state"]),
            reason=entity["reason"],
            counts=Counts(**json.loads(entity["counts"])),
            holder=Holder(**json.loads(holder)) if holder else None,
            lease_until=_unix(entity["lease_until"]),
            generation=entity["generation"],
            shards=tuple(_shard_from_json(raw) for raw in json.loads(entity["shards"])),
            next_shard=entity["next_shard"],
            settled=Counts(**json.loads(entity["settled"])),
            fenced_until=entity["fenced_until"],
            sweep_at=_unix(entity.get("sweep_at")),
            moved_in=entity["moved_in"],
            keep=entity["keep"],
            ended=_unix(entity["ended"]),
            migration=entity.get("migration") or "",
            code=entity.get("code") or "",
            marked=entity.get("marked") or "",
            origin=Origin(
                entity.get("bulkup_version") or "",
                entity.get("ci_job") or "",
                entity.get("git_commit") or "",
            ),
            chain=tuple(json.loads(entity.get("chain") or "[]")),
            work=entity.get("work") or "",
            warm=tuple(json.loads(entity.get("warm") or "[]")),
            version=version,
        )


def _written(record: RunRecord, answer: Any) -> RunRecord:
    return replace(record, version=answer.mutation_results[0].version)


def _seconds(record: RunRecord) -> int | None:
    """How long an ended run took, the pauses between its runners included."""
    if not record.ended:
        return None
    return max(0, record.ended - _unix(datetime.fromisoformat(record.run_info.created)))


def _time(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, timezone.utc)


def _unix(time: datetime | None) -> int:
    return int(time.timestamp()) if time else 0


def _shard_to_json(shard: Shard) -> list[Any]:
    bounds = (shard.start, shard.end, shard.after, shard.upto)
    return [shard.id, *(base64.b64encode(bound).decode() for bound in bounds)]


def _shard_from_json(raw: list[Any]) -> Shard:
    start, end, after, upto = (base64.b64decode(bound) for bound in raw[1:])
    return Shard(raw[0], start, end, low_cursor=start, after=after, upto=upto)
