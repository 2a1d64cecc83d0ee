"""Range records: their ids, their stored form, and whether they cover what was planned."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from bulkup.core.errors import Exit
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import NoSource, RunInfo, Shard, is_run_id
from bulkup.datastore.messages import EntityPb
from bulkup.state.range_codec import part_from_json, plan_of_ranges_from_json
from bulkup.state.ranges import (
    edges_of,
    plan_ranges,
    prefix_of,
    range_id,
    split_off,
    why_not_covered,
)
from bulkup.state.raw_entities import own_key
from bulkup.state.record import Layout, Made, RangePart, RangePlan, RunRecord, StopOrder
from bulkup.state.record_codec import read_record, write_record

TARGET = TargetInfo("p", "", "")
RUN = "20261129-120000-000000"


def _parent(run_id: str = RUN) -> RunRecord:
    run_info = RunInfo.new(
        run_id, NoSource("Up"), {}, TARGET, identity="work",
        created=datetime(2026, 11, 29, tzinfo=timezone.utc),
    )  # fmt: skip
    return RunRecord(run_info, RunState.RUNNING)


def _planned() -> tuple[RangePlan, list[RunRecord]]:
    keys = [b"", b"d", b"m", b"t", b""]
    pieces = [[Shard(0, after=keys[i], upto=keys[i + 1])] for i in range(4)]
    ranges = plan_ranges(_parent(), "abc", pieces, Made())
    parts = [one.part for one in ranges if one.part is not None]
    return RangePlan("abc", len(ranges), edges_of(parts)), ranges


def _split(record: RunRecord, edge: bytes) -> tuple[RunRecord, RunRecord]:
    assert record.part is not None
    new = split_off(record, Shard(0, after=edge, upto=record.part.last), edge)
    part = replace(record.part, last=edge, splits=record.part.splits + 1)
    return replace(record, part=part), new


def test_what_was_planned_is_covered() -> None:
    plan, ranges = _planned()
    assert why_not_covered(plan, ranges) == ""


def test_ranges_that_were_split_again_and_again_cover_what_was_planned() -> None:
    plan, (a, b, c, d) = _planned()
    b, b1 = _split(b, b"h")
    b, b2 = _split(b, b"f")
    b1, b11 = _split(b1, b"k")
    d, d1 = _split(d, b"x")
    assert [one.run_info.run_id.rpartition("-")[2] for one in (b1, b2, b11, d1)] == [
        "00002.1", "00002.2", "00002.1.1", "00004.1",
    ]  # fmt: skip
    ranges = [a, b, b1, b2, b11, c, d, d1]
    assert why_not_covered(plan, ranges) == ""
    for missing in ranges:
        assert why_not_covered(plan, [one for one in ranges if one is not missing]), missing


def test_a_hole_is_found() -> None:
    plan, ranges = _planned()
    part = ranges[1].part
    assert part is not None
    ranges[1] = replace(ranges[1], part=replace(part, last=b"g"))
    assert why_not_covered(plan, ranges) == "the ranges are not those that were planned"


def test_ids_lie_apart_from_the_names_of_the_runs_own_markers() -> None:
    for run_id in (RUN, f"{RUN}+1", "0001_clean", f"{RUN}@shop"):
        made = range_id(run_id, "abc", 7)
        assert is_run_id(made)
        assert made.startswith(prefix_of(run_id))
        # `Markers` asks for names between these.
        assert not f"{run_id}/" <= f"{made}/000001/000000001/0000" < f"{run_id}0"
    assert not range_id(f"{RUN}+1", "abc", 7).startswith(prefix_of(RUN))


def test_the_records_are_read_as_they_were_written() -> None:
    plan, ranges = _planned()
    stop = StopOrder(RunState.FAILED, "too many", int(Exit.FAILED))
    plan = replace(
        plan, base=Counts(handled=3), max_failures="1%", max_rate="200", rate=150.5,
        workers=("ann", "ben"), at=5, finished=2, total=9, stop=stop,
    )  # fmt: skip
    parent = replace(_parent(), ranges=plan, layout=Layout(shards=()))
    for record in (parent, replace(parent, state=RunState.FINISHED), ranges[1]):
        entity = EntityPb()
        key = own_key(TARGET, "BulkupRun", record.run_info.run_id)
        write_record(entity, key, record)
        assert replace(read_record(entity, 0), version=0) == record
        payload = entity.SerializeToString()
        assert b"Thing" not in payload


@pytest.mark.parametrize(
    "raw",
    [
        {}, [], {"plan": 1}, "x",
        {"plan": "a", "count": 0, "edges": "", "base": {}, "max_failures": "0", "max_rate": "auto",
         "rate": 0, "workers": "", "at": 0, "finished": 0, "total": 0},
        {"plan": "a", "count": 1, "edges": "", "base": {}, "max_failures": "0", "max_rate": "auto",
         "rate": "nan", "workers": "", "at": 0, "finished": 0, "total": 0},
        {"plan": "a", "count": 1, "edges": "", "base": {}, "max_failures": "0", "max_rate": "auto",
         "rate": 0, "workers": "", "at": 0, "finished": 0, "total": 0, "stop": None, "later": 1},
        {"first": "", "last": "", "splits": 0, "later": 1},
    ],
)  # fmt: skip
def test_what_is_not_a_plan_is_refused(raw: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        plan_of_ranges_from_json(raw)
    with pytest.raises((KeyError, TypeError, ValueError)):
        part_from_json(raw)


def test_a_part_is_read_as_bytes() -> None:
    raw = {"first": "AAE=", "last": "", "splits": 2}
    assert part_from_json(raw) == RangePart(b"\x00\x01", b"", 2)
