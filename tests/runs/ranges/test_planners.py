"""Two processes that plan the ranges of one run at the same time: one plan wins, and both work on
its ranges."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.state.kinds import RUN_KIND
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.record import LEASE_S, RunRecord
from tests.chaos.bench import later
from tests.conftest import Server
from tests.engine.conftest import everything, fill
from tests.runs.ranges.conftest import Increment, Ledgers, RunRanged


@pytest.mark.parametrize("before", [True, False], ids=["before its ranges", "after its ranges"])
def test_a_planner_that_was_suspended_joins_the_plan_of_another_one(
    server: Server, ranged: RunRanged, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch,
    before: bool,
) -> None:  # fmt: skip
    """It was suspended for longer than its lease. What it then inserts belongs to no run."""
    client = fill(server, "Thing", 120, n=0)
    insert = RangeLedger.insert
    second: list[Report] = []

    def suspended(self: RangeLedger, records: Sequence[RunRecord]) -> None:
        monkeypatch.setattr(RangeLedger, "insert", insert)
        if not before:
            insert(self, records)
        with later(2 * LEASE_S):
            second.append(
                ranged(server, Increment, ranges=9, state="other", batch_size=5, limit=30)
            )
        if before:
            insert(self, records)

    monkeypatch.setattr(RangeLedger, "insert", suspended)
    first = ranged(server, Increment, ranges=3, batch_size=5)
    assert second[0].state is RunState.STOPPED
    assert first.run_id == second[0].run_id
    assert (first.state, first.counts.handled) == (RunState.FINISHED, 120)
    assert {e["n"] for e in everything(client, "Thing")} == {1}
    (record,) = client.query(kind=RUN_KIND).fetch()
    assert json.loads(record["ranges"])["count"] == 9
