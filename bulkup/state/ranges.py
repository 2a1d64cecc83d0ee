"""A run that is cut into ranges, in Datastore.

Each range has a record of its own, of the kind RANGE_KIND: a run record with the run's facts, the
range's id, and shards that lie in the range. So a range has a lease, markers and notes like a run,
and is recovered like one. Its id begins with the run's id and a tilde, which sorts after the prefix
of the run's own markers.

The run's record says how many ranges belong to it (`RangePlan`). It is written after the ranges'
records, and it is this write that cuts the run: until then, the ranges' records have no effect.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bulkup.core.errors import StateError
from bulkup.core.model import Counts, RunState
from bulkup.core.records import Shard, is_run_id
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.record import Holder, Layout, Made, RangePart, RangePlan, RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn

MAX_RANGES = 10_000
"""The conductor reads the records of all ranges every 15 s."""


def prefix_of(run_id: str) -> str:
    """The prefix that only the ids of this run's ranges have."""
    first, plus, number = run_id.rpartition("+")
    return f"{first}_then{number}~" if plus else f"{run_id}~"


def new_plan_id() -> str:
    return uuid.uuid4().hex[:6]


def range_id(run_id: str, plan: str, number: int) -> str:
    """The id of a planned range. Raises StateError if the run's id leaves no room."""
    made = f"{prefix_of(run_id)}{plan}-{number:05d}"
    if not is_run_id(made):
        raise StateError(f"run {run_id} cannot be cut into ranges: its id is too long")
    return made


def split_id(parent: str, number: int) -> str:
    """The id of the `number`th range that is split off the range `parent`."""
    return f"{parent}.{number}"


def worker_of(holder: Holder) -> str:
    """The id under which a worker shares the rate, the same for all its successive leases."""
    return holder.runner.partition(".")[0][:12]


# --- planning ---


def plan_ranges(
    parent: RunRecord, plan: str, pieces: Sequence[Sequence[Shard]], made: Made
) -> list[RunRecord]:
    """The records of the ranges that a run is cut into, one for each piece of adjacent shards."""
    records = []
    for number, shards in enumerate(pieces, 1):
        first, last = shards[0], shards[-1]
        part = RangePart(first.start or first.after, last.end or last.upto)
        id_ = range_id(parent.run_info.run_id, plan, number)
        records.append(_range_record(parent, id_, shards, part, made))
    return records


def split_off(record: RunRecord, shard: Shard, edge: bytes) -> RunRecord:
    """The record of a new range that takes over the end of another one, after the key `edge`."""
    assert record.part is not None
    id_ = split_id(record.run_info.run_id, record.part.splits + 1)
    return _range_record(record, id_, [shard], RangePart(edge, record.part.last), record.made)


def _range_record(
    parent: RunRecord, id_: str, shards: Sequence[Shard], part: RangePart, made: Made
) -> RunRecord:
    # A record whose identity is its own id claims no work.
    run_info = replace(parent.run_info, run_id=id_, identity=id_)
    numbered = tuple(replace(shard, id=n).unbegun for n, shard in enumerate(shards, 1))
    layout = Layout(shards=numbered, next_shard=len(numbered) + 1)
    return RunRecord(
        run_info, RunState.RUNNING, layout=layout, part=part, made=made, kinds=parent.kinds
    )


def edges_of(ranges: Iterable[RangePart]) -> str:
    """A checksum of the bounds of planned ranges, in their order."""
    digest = hashlib.sha256()
    for part in ranges:
        for edge in (part.first, part.last):
            digest.update(len(edge).to_bytes(4, "big") + edge)
    return digest.hexdigest()[:32]


# --- reading ---


def ranges_of(ledger: RangeLedger, parent: RunRecord) -> list[RunRecord]:
    """The ranges of a run, in the order of their ids. Raises CallError."""
    assert parent.ranges is not None
    begin = f"{prefix_of(parent.run_info.run_id)}{parent.ranges.plan}"
    return list(ledger.between(f"{begin}-", f"{begin}."))


def why_not_covered(plan: RangePlan, ranges: Sequence[RunRecord]) -> str:
    """Why these ranges do not cover exactly what was planned, without a hole; empty: they do."""
    planned: list[RangePart] = []
    families: dict[str, dict[bytes, RunRecord]] = {}
    for record in ranges:
        name = record.run_info.run_id
        if record.part is None:
            return f"{name} is not a range"
        first = name.rpartition("~")[2].partition(".")[0]
        families.setdefault(first, {})[record.part.first] = record
    if len(families) != plan.count:
        return f"{len(families)} of {plan.count} planned ranges are there"
    members = 0
    for number in range(1, plan.count + 1):
        family = families.get(f"{plan.plan}-{number:05d}")
        if family is None:
            return f"range {number} is not there"
        original = next((r for r in family.values() if "." not in _own_name(r)), None)
        if original is None or original.part is None:
            return f"range {number} is not there"
        last, steps = original.part.last, 1
        while last and (follower := family.get(last)) is not None and steps < len(family):
            assert follower.part is not None
            last, steps = follower.part.last, steps + 1
        members += steps
        planned.append(RangePart(original.part.first, last))
    if members != len(ranges):
        return "there is a hole between two ranges"
    if edges_of(planned) != plan.edges:
        return "the ranges are not those that were planned"
    return ""


def _own_name(record: RunRecord) -> str:
    return record.run_info.run_id.rpartition("~")[2]


def total_of(plan: RangePlan, ranges: Iterable[RunRecord]) -> Counts:
    """The counts of the whole run so far."""
    total = plan.base
    for record in ranges:
        total = total + record.counts
    return total


def is_finished(record: RunRecord) -> bool:
    return record.state is RunState.FINISHED


# --- changing ---

TRIES = 20
"""How many times to try to change a record that others change at the same time."""


def change_record(
    ledger: Ledger, run_id: str, change: Callable[[RunRecord], RunRecord], *, tries: int = TRIES
) -> RunRecord | None:
    """Change the record of a run that is cut into ranges and is not over, whoever conducts it.

    Returns the record as it is now; None: it is gone, or is not cut. `change` returns the same
    object for no change. Raises RecordMovedOn after many tries, CallError, StateError.
    """
    while True:
        there = ledger.read(run_id)
        if there is None or there.ranges is None or there.state.is_over:
            return there if there is not None and there.ranges is not None else None
        changed = change(there)
        if changed is there or changed == there:
            return there
        try:
            return ledger.write(changed)
        except RecordMovedOn:
            tries -= 1
            if not tries:
                raise
