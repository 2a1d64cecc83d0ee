"""A run in ranges is steered as a whole: whoever works on it does what is asked."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.core.steering import Tuning, Verb
from bulkup.runs.steer import Change, steer
from bulkup.runs.target import TargetOptions
from tests.conftest import Server
from tests.engine.conftest import everything, fill
from tests.runs.ranges.conftest import Increment, InThread, RunRanged

PLACES = ("state", "other")


class Waiting(Increment):
    """The first entity of each process says that it has begun, and all wait a little."""

    begun = threading.Semaphore(0)
    go_on = threading.Event()

    def handle_entity(self, entity: Entity) -> None:
        self.begun.release()
        self.go_on.wait(0.02)
        super().handle_entity(entity)


@pytest.fixture(autouse=True)
def fresh() -> None:
    Waiting.begun = threading.Semaphore(0)
    Waiting.go_on = threading.Event()


def _two(ranged: RunRanged, server: Server, **options: Any) -> list[InThread]:
    runners = [
        InThread(
            lambda place=place: ranged(  # type: ignore[misc]
                server, Waiting, ranges=6, batch_size=3, state=place, **options
            )
        )
        for place in PLACES
    ]
    for _ in range(10):
        assert Waiting.begun.acquire(timeout=60)
    return runners


def _steer(server: Server, tmp_path: Path, run_id: str, change: Change) -> None:
    """From another machine: only the record is there."""
    target = TargetOptions(project=server.project)
    steer(run_id, change, state_dir=tmp_path / "nowhere", target=target, wait_s=0.0)


def _run_id(server: Server) -> str:
    (record,) = server.client().query(kind="BulkupRun").fetch()
    return str(record.key.name)


def test_a_cancel_ends_all_processes(embedded: Server, ranged: RunRanged, tmp_path: Path) -> None:
    client = fill(embedded, "Thing", 300, n=0)
    runners = _two(ranged, embedded)
    _steer(embedded, tmp_path, _run_id(embedded), Change(Verb.CANCEL))
    reports = [runner.join() for runner in runners]
    assert {report.exit_code for report in reports} == {Exit.CANCELLED}
    (record,) = client.query(kind="BulkupRun").fetch()
    assert record["state"] == "stopped"
    Waiting.go_on.set()
    report = ranged(embedded, Waiting)
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 300)
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_a_pause_holds_all_processes(embedded: Server, ranged: RunRanged, tmp_path: Path) -> None:
    client = fill(embedded, "Thing", 200, n=0)
    runners = _two(ranged, embedded)
    run_id = _run_id(embedded)
    _steer(embedded, tmp_path, run_id, Change(Verb.PAUSE))

    def handled() -> int:
        return sum(e["n"] for e in client.query(kind="Thing").fetch())

    is_still = threading.Event()
    while True:  # until nothing has moved for a while
        before = handled()
        is_still.wait(1.0)
        if handled() == before:
            break
    assert before < 200
    _steer(embedded, tmp_path, run_id, Change(Verb.TUNE, Tuning(max_rate="1000")))
    Waiting.go_on.set()
    _steer(embedded, tmp_path, run_id, Change(Verb.CONTINUE))
    assert {runner.join().state for runner in runners} == {RunState.FINISHED}
    assert {e["n"] for e in everything(client, "Thing")} == {1}
