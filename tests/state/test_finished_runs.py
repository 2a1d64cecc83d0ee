"""Whether work was done before: asked of thousands of finished runs, and answered by the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from bulkup.core.events import AlreadyDone
from bulkup.core.model import Counts, RunState
from bulkup.core.records import NoSource, RunInfo
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import resolve
from bulkup.runs.done_before import find_done
from bulkup.state.finished_runs import PAGE
from bulkup.state.record import Chain, RunRecord
from bulkup.state.run_records import Ledger
from tests.conftest import Server

pytestmark = pytest.mark.sampled(3)

BEGAN = 1767323000
OLD, NEW = "0" * 64, "1" * 64


class History:
    """The finished runs of one piece of work."""

    def __init__(self, rpc: Rpc, ledger: Ledger, server: Server) -> None:
        self._rpc = rpc
        self._ledger = ledger
        self._target = resolve(server.project).info
        self._count = 0

    def run_info(self, run_id: str, checksum: str) -> RunInfo:
        created = datetime.fromtimestamp(BEGAN, timezone.utc)
        source = NoSource("Bump", checksum=checksum)
        return RunInfo.new(run_id, source, {}, self._target, identity="a" * 64, created=created)

    def finish(self, count: int, checksum: str = OLD, **changes: object) -> list[str]:
        """This many runs, one after the other; their ids."""
        records = []
        for _ in range(count):
            self._count += 1
            run_info = self.run_info(f"20260102-{self._count:06}-000000", checksum)
            records.append(
                RunRecord(run_info, RunState.FINISHED, counts=Counts(handled=1, puts=1),
                          ended=BEGAN + self._count, **changes)  # type: ignore[arg-type]
            )  # fmt: skip
        for first in range(0, count, 20):
            self._ledger.write_together(records[first : first + 20])
        return [record.run_info.run_id for record in records]

    def change(self, run_id: str, **changes: object) -> None:
        record = self._ledger.read(run_id)
        assert record is not None
        self._ledger.write(replace(record, **changes), over=True)  # type: ignore[arg-type]

    def follow(self, run_id: str, state: RunState) -> None:
        """A successor."""
        run_info = self.run_info(f"{run_id}+1", NEW)
        record = RunRecord(run_info, state, chain=Chain(("next.py",), "b" * 64), ended=BEGAN)
        self._ledger.write(record, over=True)

    def done(
        self, checksum: str = OLD, settled: frozenset[str] = frozenset()
    ) -> AlreadyDone | None:
        asks = self.run_info("20270101-000000-000000", checksum)
        return find_done(self._ledger, self._ledger.finished_runs_of(asks.identity), asks, settled)

    def done_as(self, checksum: str = OLD) -> tuple[str, bool]:
        done = self.done(checksum)
        assert done is not None
        return done.run_id, done.same_source

    def reads(self, ask: Callable[[], bool]) -> int:
        before = self._rpc.meter.operations().reads
        assert ask()
        return self._rpc.meter.operations().reads - before


MakeHistory = Callable[[Server], History]


@pytest.fixture
def make_history(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHistory]:
    opened = []

    def make(server: Server) -> History:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        target = resolve(server.project)
        opened.append(rpc := Rpc(target.client))
        return History(rpc, Ledger(rpc, target.info), server)

    yield make
    for rpc in opened:
        rpc.close()


def test_what_is_read_does_not_grow_with_the_finished_runs(
    server: Server, make_history: MakeHistory
) -> None:
    history = make_history(server)
    old = history.finish(2, listed=False)
    (only,) = history.finish(1, NEW)

    def reads(ids: list[str]) -> list[int]:
        settled = frozenset([*old, only, *ids])
        return [
            history.reads(lambda: history.done_as() == (ids[-1], True)),
            history.reads(lambda: history.done_as(NEW) == (only, True)),
            history.reads(lambda: history.done_as("2" * 64) == (ids[-1], False)),
            history.reads(lambda: history.done(settled=settled) is None),
        ]

    some = reads(history.finish(PAGE))
    assert reads(history.finish(3 * PAGE)) == some
    assert max(some) <= PAGE + 6


def test_the_last_run_that_counts_is_found_behind_those_that_do_not(
    server: Server, make_history: MakeHistory
) -> None:
    history = make_history(server)
    assert history.done() is None
    first, second = history.finish(2)
    undone = history.finish(PAGE + 3, undone_by="20260103-000000-000000")
    assert history.done_as() == (second, True)
    history.change(second, undone_by="20260103-000000-000000")
    assert history.done_as() == (first, True)
    history.change(undone[4], undone_partly=True)
    assert history.done_as() == (undone[4], True)
    history.follow(undone[4], RunState.ABANDONED)
    assert history.done_as() == (first, True)
    history.change(f"{undone[4]}+1", state=RunState.FINISHED)
    done = history.done()
    assert done is not None
    assert (done.run_id, done.counts.handled) == (undone[4], 1)


def test_runs_that_an_earlier_version_finished_are_found(
    server: Server, make_history: MakeHistory
) -> None:
    history = make_history(server)
    old = history.finish(2, NEW, listed=False)
    assert history.done_as(NEW) == (old[1], True)
    assert history.done_as() == (old[1], False)
    history.change(old[1], undone_by="20260103-000000-000000")  # and it stays one of these
    assert history.done_as(NEW) == (old[0], True)
    ids = history.finish(3)
    assert history.done_as() == (ids[-1], True)
    assert history.done_as(NEW) == (old[0], True)
    assert history.done_as("2" * 64) == (ids[-1], False)
