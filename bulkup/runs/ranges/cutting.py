"""Cuts a run into ranges: a new run, or one that a single process has begun."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from bulkup.core.errors import QueryError, StateError, UsageError
from bulkup.core.model import Counts
from bulkup.core.records import Shard
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.rpc import Rpc, count_of
from bulkup.engine.key_scan import KeyPlan
from bulkup.engine.recovery import Recovery, recover
from bulkup.engine.scan import QueryPlan
from bulkup.engine.splits import Sample, Sampling, why_not_split
from bulkup.runs.prepare import PreparedRun
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import MAX_RANGES, edges_of, new_plan_id, plan_ranges
from bulkup.state.record import Made, RangePlan, RunRecord

COUNT_WITHIN_S = 5.0
"""How long to wait for the answer to COUNT, which says how many entities there are."""

ENTITIES_PER_RANGE = 100_000
"""Used when the number of ranges is not given: some minutes of work for one process."""
LEAST_RANGES, MOST_RANGES = 8, 1000
RANGES_OF_UNKNOWN = 64


def check_can_be_cut(prepared: PreparedRun) -> None:
    """Raises QueryError, UsageError."""
    context = prepared.context
    if isinstance(prepared.query, KeyPlan):
        raise UsageError(
            "a run on a list of keys cannot be cut into ranges; leave out --ranges or --on beam"
        )
    if (reason := why_not_split(prepared.query)) is not None:
        raise QueryError(
            f"the query cannot be cut into ranges: {reason}; leave out --ranges or --on beam"
        )
    if local := prepared.target.info.local:
        raise UsageError(
            "a file (--local) can be open in one process only, so no other could join; serve it "
            f"with `bulkup local serve {shlex.quote(local)}` and run this without --local, or "
            "leave out --ranges"
        )
    if context.options.processes > 1:
        raise UsageError(
            "--processes does not work with ranges; start the same command several times instead, "
            "here or on other machines"
        )
    if context.plan is not None or context.until_clean:
        name = "--plan" if context.plan is not None else "--until-clean"
        raise UsageError(f"{name} does not work with --ranges; leave one of them out")


def cut(
    prepared: PreparedRun, checkpoint: Checkpoint, held: RunRecord, wanted: int | None
) -> RunRecord:
    """Cut a run that this process holds into about `wanted` ranges (None: as many as its size
    suggests), and release it, because workers on its ranges need not hold the run. If nothing is
    left to do, the run is not cut and stays held.

    Raises BulkupError, CallError.
    """
    rpc, context, ledger = prepared.rpc, prepared.context, prepared.ledger
    if held.made.known_in is not None:
        raise StateError(
            f"run {held.run_info.run_id} cannot be cut into ranges: only its state directory knows "
            "which entities it made; resume it without --ranges"
        )
    counting = rpc.count(prepared.query.pb, prepared.query.namespace)
    lease = Lease(ledger, held, clock=context.clock, refresh=lambda record: record)
    on_tick, rpc.on_tick = rpc.on_tick, lease.tick
    try:
        base, shards = _left(prepared, checkpoint, lease)
        if not shards:
            return lease.record
        total = held.total
        deadline = context.clock.monotonic() + COUNT_WITHIN_S
        while total is None and not counting.done() and context.clock.monotonic() < deadline:
            rpc.nap(0.02)
        if total is None and counting.done():
            with suppress(CallError):
                total = count_of(counting.first_answer())
        wanted = wanted or _suggested(total)
        sample = Sampling(rpc, prepared.query, max(1, math.ceil(wanted / 4))).take()
        pieces = [
            piece
            for shard, share in _shares(shards, sample, min(wanted, MAX_RANGES))
            for piece in _pieces(rpc, prepared.query, shard, sample, share)
        ]
        times = lease.times()
        made = held.made
        if made == Made() and times is not None:
            made = Made(since_ns=times.updated_ns, record_ns=times.created_ns)
        plan = new_plan_id()
        records = plan_ranges(lease.record, plan, pieces, replace(made, record_ns=0))
        RangeLedger.beside(ledger).insert(records)
        ranges = RangePlan(
            plan,
            len(records),
            edges_of(record.part for record in records if record.part is not None),
            base,
            max_failures=_max_failures(prepared),
            max_rate=str(context.options.max_rate),
            total=len(records),
        )
        lease.update(
            lambda record: replace(
                record,
                counts=base,
                total=total,
                made=made,
                ranges=ranges,
                layout=replace(record.layout, shards=(), settled=base),
                lease=replace(record.lease, until=0),
            )
        )
    finally:
        rpc.on_tick = on_tick
        counting.cancel()
    return lease.record


def _max_failures(prepared: PreparedRun) -> str:
    given = prepared.context.options.max_failures
    return str(prepared.updater.max_failures if given is None else given)


def _suggested(total: int | None) -> int:
    if total is None:
        return RANGES_OF_UNKNOWN
    return min(MOST_RANGES, max(LEAST_RANGES, total // ENTITIES_PER_RANGE))


def _left(
    prepared: PreparedRun, checkpoint: Checkpoint, lease: Lease
) -> tuple[Counts, Sequence[Shard]]:
    """What is done in a run, and the shards that are left."""
    record, rpc, run_info = lease.record, prepared.rpc, lease.record.run_info
    if record.lease.generation > 1:
        recovery = Recovery(
            rpc=rpc, checkpoint=checkpoint,
            markers=Markers(rpc, run_info.target.namespace, run_info.run_id),
            notes=Notes(rpc, run_info.target.namespace, run_info.run_id),
            runner=lease.runner,
        )  # fmt: skip
        recover(recovery, checkpoint, lease, prepared.context.clock.unix(), whole=True)
    base = checkpoint.done()
    return base, lease.record.layout.shards


def _shares(shards: Sequence[Shard], sample: Sample, wanted: int) -> list[tuple[Shard, int]]:
    """How many ranges to make from each shard."""
    keys = [len(sample.inside(shard.after, shard.upto)) for shard in shards]
    total = max(1, sum(keys))
    return [
        (shard, max(1, round(wanted * own / total)))
        for shard, own in zip(shards, keys, strict=True)
    ]


def _pieces(
    rpc: Rpc, query: QueryPlan, shard: Shard, sample: Sample, wanted: int
) -> list[list[Shard]]:
    """Cut a shard into about `wanted` pieces. A shard that ends at a cursor stays whole: a cursor
    is valid only for the query that it came from, key bounds included."""
    if shard.end or wanted < 2:
        return [[shard]]
    head: list[Shard] = []
    rest = shard
    if shard.start:
        first = _first_of(rpc, query, shard)
        if first is None:
            return [[shard]]
        key, cursor = first
        head = [replace(shard, end=cursor)]
        rest = Shard(0, after=key, upto=shard.upto)
    keys = sample.inside(rest.after, rest.upto)
    parts = min(wanted, len(keys) + 1)
    bounds = [
        rest.after, *(keys[len(keys) * i // parts] for i in range(1, parts)), rest.upto
    ]  # fmt: skip
    pieces = [[Shard(0, after=bounds[i], upto=bounds[i + 1])] for i in range(parts)]
    pieces[0] = [*head, *pieces[0]]
    return pieces


def _first_of(rpc: Rpc, query: QueryPlan, shard: Shard) -> tuple[bytes, bytes] | None:
    """The key of the first entity of a shard that starts at a cursor, and the cursor after it."""
    pb = query.between(shard.after, shard.upto)
    pb.start_cursor = shard.start
    pb.limit.value = 1
    for result in rpc.run_query(pb, query.namespace).result().batch.entity_results:
        return key_bytes(result.entity.key), result.cursor
    return None
