"""The ledger: the run records of a target, read and written.

Every write of a record is guarded by the version that was read. So if two processes change it at
once, one of them is refused, and so is a copy of a commit that arrives late:

    commit                        why a late copy of it changes nothing
    a run's start                 its record is there, or its seal (`--no-record`) has moved on
    a renewal, a change           the record has another version
    the end of a run, with or     the same; it is one commit with the removal of the claim and the
    without a successor           start of the successor
    the removal of a record       it requires the version that was read
    the removal of a claim        the same, also where it is part of the end of a run
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from bulkup.core.errors import StateError
from bulkup.core.model import TargetInfo
from bulkup.core.records import RunInfo, is_run_id
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes, key_text
from bulkup.datastore.messages import AND, EntityPb, Mutation, Operator, Pb, QueryPb, ValuePb
from bulkup.datastore.queries import kind_query
from bulkup.datastore.refusals import commit_answer
from bulkup.datastore.rpc import Rpc
from bulkup.state.approvals import Approvals
from bulkup.state.finished_runs import FinishedRuns
from bulkup.state.kinds import CLAIM_KIND, RUN_KIND
from bulkup.state.raw_entities import (
    own_key,
    read_properties,
    write_properties,
)
from bulkup.state.record import RunRecord
from bulkup.state.record_codec import record_of, write_record
from bulkup.state.seals import guarded_delete, guarded_write, seal_key, sealed

END_OF_TIME = 253402300799
"""The last second of the year 9999, the latest that Datastore can store."""


class RecordMovedOn(Exception):
    """Somebody else has changed the record since it was read."""


class RecordTimes(NamedTuple):
    """When a record was written, by the server's clock, in nanoseconds since 1970."""

    created_ns: int
    updated_ns: int


class Claim(NamedTuple):
    """The claim on a piece of work."""

    run_id: str
    version: int


class Ledger:
    """The run records of one target."""

    kind = RUN_KIND

    def __init__(self, rpc: Rpc, target: TargetInfo) -> None:
        self._rpc = rpc
        self._target = target
        self.server_time = rpc.server_time

    # --- reading ---

    def read(self, run_id: str) -> RunRecord | None:
        """The record of a run; None: it is not there. Raises CallError."""
        for result in self._rpc.lookup([self._key(run_id)]).values():
            return record_of(result)
        return None

    def begin_read(self, run_id: str) -> Call[Any]:
        """Ask for a record without waiting; `end_read` reads the answer."""
        return self._rpc.look_up(self._key(run_id))

    def end_read(self, call: Call[Any]) -> RunRecord | None:
        """The record; None: it is not there, or the server has deferred the answer.

        Raises CallError if the first attempt has failed.
        """
        for result in call.first_answer().found:
            return record_of(result)
        return None

    def times(self, run_id: str) -> RecordTimes | None:
        """When a record was written; None if the server does not say. Raises CallError."""
        for result in self._rpc.lookup([self._key(run_id)]).values():
            if result.HasField("create_time") and result.HasField("update_time"):
                return RecordTimes(
                    result.create_time.ToNanoseconds(), result.update_time.ToNanoseconds()
                )
        return None

    def read_in(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], RunRecord]:
        """Records by namespace and run id, in any namespaces; missing ones are left out.

        Raises CallError.
        """
        keys: dict[bytes, tuple[Pb, tuple[str, str]]] = {}
        for namespace, run_id in places:
            key = own_key(replace(self._target, namespace=namespace), RUN_KIND, run_id)
            keys[key_bytes(key)] = key, (namespace, run_id)
        found = self._rpc.lookup([key for key, _ in keys.values()])
        return {keys[key][1]: record_of(result) for key, result in found.items()}

    def unfinished(self, identity: str) -> RunRecord | None:
        """The unfinished run of the same updater, parameters and query. Writes nothing.

        Raises CallError.
        """
        return self._unfinished(self.read_claim(identity), identity)

    def unfinished_before_start(self, identity: str) -> RunRecord | None:
        """Like `unfinished`, for a process that starts a run if there is none. Removes a claim
        whose run record was deleted by hand, because it would block the start. Raises CallError."""
        claim = self.read_claim(identity)
        record = self._unfinished(claim, identity)
        if claim is not None and record is None:
            self._release(identity, claim)
        return record

    def _unfinished(self, claim: Claim | None, identity: str) -> RunRecord | None:
        record = None if claim is None else self.read(claim.run_id)
        if claim is None or record is None or record.state.is_over:
            return None
        if record.run_info.identity != identity:
            raise StateError(
                f"a claim in Datastore says that run {claim.run_id} is of this work, but the run's "
                f"record says otherwise; delete the claim {key_text(self._claim_key(identity))} "
                "and run the command again"
            )
        return replace(record, claim_version=claim.version)

    def open_runs_of(self, updater: str) -> Iterator[RunRecord]:
        """Unfinished runs of updaters of this name. The query is sent at once; taking the first
        record raises CallError."""
        return self._query(
            ("updater", "EQUAL", ValuePb(string_value=updater)),
            ("open", "EQUAL", ValuePb(boolean_value=True)),
        )

    def finished_runs_of(self, identity: str) -> FinishedRuns:
        """The finished runs of the same updater, parameters and query."""
        return FinishedRuns(self._rpc, self._target.namespace, identity)

    def to_sweep(self) -> Iterator[RunRecord]:
        """Finished runs whose last markers may be removed by now (see `state/sweeping.py`). The
        query is sent at once; taking the first record raises CallError."""
        time = self._rpc.server_time
        seconds = int(time.now()) if time.is_known else END_OF_TIME
        until = ValuePb(timestamp_value={"seconds": seconds})
        return self._query(("sweep_at", "LESS_THAN_OR_EQUAL", until))

    def all_records(self) -> Iterator[RunRecord]:
        """Every record in the target's namespace, in no useful order. Raises CallError."""
        query = kind_query(RUN_KIND)
        return self._answers(query, self._rpc.run_query(query, self._target.namespace))

    def migrations(self) -> list[RunRecord]:
        """The records of all migrations, applied or not. Raises CallError."""
        return list(self._query(("migration", "GREATER_THAN", ValuePb(string_value=""))))

    def _query(self, *filters: tuple[str, str, Pb]) -> Iterator[RunRecord]:
        query = QueryPb()
        query.kind.add(name=self.kind)
        composite = query.filter.composite_filter
        composite.op = AND
        for name, operator, value in filters:
            part = composite.filters.add().property_filter
            part.property.name = name
            part.op = Operator[operator]
            part.value.CopyFrom(value)
        return self._answers(query, self._rpc.run_query(query, self._target.namespace))

    def _answers(self, query: Pb, call: Call[Any]) -> Iterator[RunRecord]:
        for result in self._rpc.results_from(call, query, self._target.namespace):
            yield record_of(result)

    # --- writing ---

    def write(
        self,
        record: RunRecord,
        *,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> RunRecord:
        """Write a record, new or over the version it was read at; returns it with its new version.

        A new record claims its work, so of two runs that begin the same work one is refused.
        `over`: this write ends the run and removes its claim. `successor`: a new record, which the
        same commit writes and which takes over the claim. `extra_mutations` are serialized and go
        into the same commit; they concern entities that nobody needs once it is applied.

        After a lost answer the record is read: if it equals what was sent, the write was applied.
        Raises RecordMovedOn when somebody else was faster, CallError.
        """
        call = self.begin_write(
            record, over=over, successor=successor, extra_mutations=extra_mutations
        )
        return self.end_sure_write(record, call)

    def write_together(self, records: Sequence[RunRecord]) -> None:
        """Write several records over the versions they were read at: all of them, or none.

        Raises RecordMovedOn, CallError.
        """
        mutations = []
        for record in records:
            entity = EntityPb()
            write_record(entity, self._key(record.run_info.run_id), record)
            mutations.append(guarded_write(entity, record.version).SerializeToString())
        self.end_sure_write(records[0], self._rpc.commit(mutations))

    def begin_write(
        self,
        record: RunRecord,
        *,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> Call[Any]:
        """Send what `write` writes, without waiting; `end_write` or `end_sure_write` waits."""
        entity = EntityPb()
        write_record(entity, self._key(record.run_info.run_id), record)
        mutations = [guarded_write(entity, record.version)]
        if not record.version and not over and record.run_info.identity != record.run_info.run_id:
            mutations.append(guarded_write(self._claim(record), record.claim_version))
            if not record.keep:
                mutations.append(self._seal(record.run_info))
        if record.version and (over or successor is not None):
            mutations += self._pass_on(record, successor)
        if successor is not None:
            begun = Mutation()
            write_record(begun.insert, self._key(successor.run_info.run_id), successor)
            mutations.append(begun)
        return self._rpc.commit([*(m.SerializeToString() for m in mutations), *extra_mutations])

    def end_sure_write(self, record: RunRecord, call: Call[Any]) -> RunRecord:
        """Wait for the write, and send it again where that helps; returns the written record. See
        `write`."""
        try:
            answer = commit_answer(self._rpc, call)
        except CallError as error:
            if error.unexplained or not error.claims_conflict:
                raise
            there = self.read(record.run_info.run_id)
            if there is not None and replace(there, version=record.version) == record:
                return there
            raise RecordMovedOn from error
        self.server_time.learn(answer.commit_time)
        written = replace(record, version=answer.mutation_results[0].version)
        if not record.version and len(answer.mutation_results) > 1:
            written = replace(written, claim_version=answer.mutation_results[1].version)
        return written

    def end_write(self, record: RunRecord, call: Call[Any]) -> RunRecord:
        """The written record, from the answer to the first attempt: nothing is sent again.

        Raises RecordMovedOn, CallError.
        """
        try:
            answer = call.first_answer()
        except CallError as error:
            if error.claims_conflict:
                raise RecordMovedOn from error
            raise
        self.server_time.learn(answer.commit_time)
        return replace(record, version=answer.mutation_results[0].version)

    def remove(self, record: RunRecord) -> None:
        """Remove a record, unless it has changed since it was read. Raises CallError."""
        self._remove(self._key(record.run_info.run_id), record.version)

    def _remove(self, key: Pb, version: int) -> None:
        try:
            call = self._rpc.commit([guarded_delete(key, version).SerializeToString()])
            commit_answer(self._rpc, call)
        except CallError as error:
            is_gone_or_anothers = error.is_conflict and not error.unexplained
            if not is_gone_or_anothers:
                raise

    def sealed_for(self, identity: str) -> str | None:
        """The id of the last run of this work with `--no-record`, if any. Raises CallError."""
        for result in self._rpc.lookup([seal_key(self._target, identity)]).values():
            return str(read_properties(result.entity).get("for"))
        return None

    def _seal(self, run_info: RunInfo) -> Any:
        return sealed(self._rpc, seal_key(self._target, run_info.identity), run_info.run_id)

    def _key(self, run_id: str) -> Pb:
        return own_key(self._target, self.kind, run_id)

    def approvals(self) -> Approvals:
        """The approvals of plans, which are stored next to the records."""
        return Approvals(self._rpc, self._target)

    # --- claims ---

    def read_claim(self, identity: str) -> Claim | None:
        """Which run claims the work: an unfinished one, or one whose record was deleted by hand.

        Raises CallError, StateError.
        """
        for result in self._rpc.lookup([self._claim_key(identity)]).values():
            run_id = read_properties(result.entity).get("run")
            if not is_run_id(run_id):
                raise StateError(
                    f"the claim {key_text(result.entity.key)} names {run_id!r}, which is not the "
                    "id of a run; bulkup has not written it, so delete it and run the command again"
                )
            return Claim(run_id, result.version)
        return None

    def _release(self, identity: str, claim: Claim) -> None:
        self._remove(self._claim_key(identity), claim.version)

    def _pass_on(self, record: RunRecord, successor: RunRecord | None) -> list[Any]:
        """The mutation that gives a run's claim to its successor, or removes it if there is none.

        No mutation if another run has the claim, because somebody deleted this one's by hand.
        """
        version, run_info = record.claim_version, record.run_info
        if not version and run_info.identity != run_info.run_id:  # the migrate lock claims no work
            claim = self.read_claim(run_info.identity)
            if claim is not None and claim.run_id != run_info.run_id:
                return []
            version = 0 if claim is None else claim.version
        if successor is not None:
            return [guarded_write(self._claim(successor), version)]
        key = self._claim_key(run_info.identity)
        return [guarded_delete(key, version)] if version else []

    def _claim(self, record: RunRecord) -> Pb:
        claim = EntityPb(key=self._claim_key(record.run_info.identity))
        write_properties(claim, {"run": record.run_info.run_id})
        return claim

    def _claim_key(self, identity: str) -> Pb:
        return own_key(self._target, CLAIM_KIND, identity)
