from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity, Query

import bulkup
from bulkup.core.events import Event, Report
from bulkup.core.model import TargetInfo
from bulkup.datastore.rpc import Rpc
from bulkup.engine import splits
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import prepare
from bulkup.runs.ranges import work
from bulkup.runs.ranges.view import Times
from bulkup.runs.start import Cutting, start
from bulkup.runs.target import TargetOptions
from bulkup.state.kinds import CLAIM_KIND, MARKER_KIND, RANGE_KIND, RUN_KIND
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.run_records import Ledger
from tests.conftest import Server

QUICK = Times(look_every_s=0.05, conduct_every_s=0.1, grace_s=0.1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and conduct at once, and cut kinds that are as small as these."""
    monkeypatch.setattr(work, "TIMES", QUICK)
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)


class Increment(bulkup.Updater):
    """Not idempotent: applied twice, n is 2."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity["n"] + 1
        self.put(entity)


RunRanged = Callable[..., Report]


@pytest.fixture
def ranged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRanged:
    """`bulkup run --ranges`; without `ranges` it is `bulkup run`."""

    def run_it(
        server: Server,
        updater: Any,
        *,
        ranges: int | None = 0,
        state: str = "state",
        listener: Callable[[Event], None] = lambda event: None,
        fresh: bool = False,
        wait_s: float = 0.0,
        **options: Any,
    ) -> Report:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        context = RunContext(Options(**options), tmp_path / state, listener, wait_s)
        with prepare(updater, {}, TargetOptions(server.project), context) as prepared:
            return start(prepared, fresh=fresh, cutting=Cutting(ranges))

    return run_it


def left_in(server: Server) -> dict[str, int]:
    """How many entities of bulkup's own there are, by kind."""
    client = server.client()
    kinds = (MARKER_KIND, CLAIM_KIND, RANGE_KIND, RUN_KIND)
    return {kind: len(list(client.query(kind=kind).fetch())) for kind in kinds}


Ledgers = Callable[[Server], tuple[Ledger, RangeLedger]]


@pytest.fixture
def ledgers() -> Iterator[Ledgers]:
    """The run records of a server, and those of ranges."""
    opened: list[Rpc] = []

    def ledgers_of(server: Server) -> tuple[Ledger, RangeLedger]:
        rpc = Rpc(server.client())
        opened.append(rpc)
        target = TargetInfo(server.project, "", "")
        return Ledger(rpc, target), RangeLedger(rpc, target)

    yield ledgers_of
    for rpc in opened:
        rpc.close()


class InThread:
    """A runner beside the test's own."""

    def __init__(self, work: Callable[[], Report]) -> None:
        self.report: Report | None = None
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        try:
            self.report = self._work()
        except BaseException as error:
            self.error = error

    def join(self) -> Report:
        self._thread.join()
        if self.error is not None:
            raise self.error
        assert self.report is not None
        return self.report
