"""A run that is steered while it works: paused it commits nothing, and nothing is ever lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.errors import Exit
from bulkup.core.events import Event, Progress, RunStarted, RunState, Steered
from bulkup.core.steering import SteerState, Tuning, Verb
from bulkup.core.vitals import Phase
from bulkup.runs.steer import Change, Outcome, SteerResult, steer
from bulkup.state import lease
from bulkup.state.steering import read_answer, read_steering
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

SIZE = 120


@bulkup.updater(kind="Thing")
def up(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


@bulkup.updater(kind="Thing")
async def up_async(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


@bulkup.updater(kind="Thing", batch=True)
def up_batch(entities: list[Entity]) -> list[Entity]:
    for entity in entities:
        entity["n"] += 1
    return entities


class Watcher:
    """A listener that steers the run once, at `at` entities, from another thread, and on from there
    when the run says that it has done so."""

    def __init__(self, state_dir: Path, *changes: Change, at: int = 1) -> None:
        self._state_dir = state_dir
        self._changes = [*changes]
        self._at = at
        self.run_id = ""
        self.events: list[Event] = []
        self.results: list[SteerResult] = []
        self.while_paused: Callable[[], None] = lambda: None
        self._threads: list[threading.Thread] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, RunStarted):
            self.run_id = event.run_id
            if self._at == 0:
                self.steer_on()
        if isinstance(event, Progress) and event.vitals and event.vitals.phase is Phase.PAUSED:
            self.while_paused()
            self.steer_on()
        if isinstance(event, Steered) and event.verb is Verb.TUNE:
            self.steer_on()

    def steer_on(self) -> None:
        if self._changes:
            change = self._changes.pop(0)
            thread = threading.Thread(target=self._steer, args=[change])
            self._threads.append(thread)
            thread.start()

    def _steer(self, change: Change) -> None:
        found = steer(self.run_id, change, state_dir=self._state_dir, by="ann@host")
        self.results.append(found)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    @property
    def steered(self) -> list[tuple[Verb, SteerState]]:
        return [(e.verb, e.steering.state) for e in self.events if isinstance(e, Steered)]


PAUSE, CONTINUE, CANCEL = Change(Verb.PAUSE), Change(Verb.CONTINUE), Change(Verb.CANCEL)

FORMS: list[tuple[Any, dict[str, Any]]] = [
    (up, {}),
    (up, {"shards": 4}),
    (up, {"processes": 2}),
    (up_async, {}),
    (up_batch, {}),
    (up, {"max_rate": 400}),
]


@pytest.mark.parametrize(("updater", "options"), FORMS)
def test_a_paused_run_commits_nothing_and_loses_nothing(
    embedded: Server, run: Run, tmp_path: Path, updater: Any, options: dict[str, Any]
) -> None:
    client = fill(embedded, "Thing", SIZE, n=0)
    watcher = Watcher(tmp_path / "state", PAUSE, CONTINUE, at=0)
    seen: list[int] = []
    watcher.while_paused = lambda: seen.append(
        sum(thing["n"] for thing in client.query(kind="Thing").fetch())
    )
    report = run(embedded, updater, listener=watcher, batch_size=5, in_flight=2, **options)
    watcher.join()
    assert report.exit_code == Exit.DONE
    assert [thing["n"] for thing in everything(client, "Thing")] == [1] * SIZE
    assert watcher.steered == [
        (Verb.PAUSE, SteerState.PAUSED),
        (Verb.CONTINUE, SteerState.WORKING),
    ]
    assert [result.outcome for result in watcher.results] == [Outcome.DONE] * 2
    assert seen
    assert len(set(seen)) == 1
    assert seen[0] == done_at_the_pause(watcher)
    folder = tmp_path / "state" / report.run_id
    assert read_steering(folder).number == 2
    assert read_answer(folder) is not None


def done_at_the_pause(watcher: Watcher) -> int:
    """What the runner counts as done when it says that it is paused: it knows every answer."""
    (paused,) = {
        event.counts.handled
        for event in watcher.events
        if isinstance(event, Progress) and event.vitals and event.vitals.phase is Phase.PAUSED
    }
    return paused


def test_a_cancelled_run_is_resumed(embedded: Server, run: Run, tmp_path: Path) -> None:
    client = fill(embedded, "Thing", SIZE, n=0)
    watcher = Watcher(tmp_path / "state", PAUSE, CANCEL, at=0)
    report = run(embedded, up, listener=watcher, batch_size=5)
    watcher.join()
    assert (report.state, report.exit_code) == (RunState.STOPPED, Exit.CANCELLED)
    assert report.reason == "cancelled by ann@host"
    assert report.next_command.startswith("bulkup resume ")
    assert watcher.steered[-1] == (Verb.CANCEL, SteerState.CANCELLED)
    assert report.counts.handled < SIZE
    report = run(embedded, up)
    assert (report.exit_code, report.counts.handled) == (Exit.DONE, SIZE)
    assert [thing["n"] for thing in everything(client, "Thing")] == [1] * SIZE


def test_a_tuned_run_works_with_what_it_was_told(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 60, n=0)
    tune = Change(Verb.TUNE, Tuning("1000", 1, 7))
    watcher = Watcher(tmp_path / "state", PAUSE, tune, CONTINUE, at=0)
    report = run(embedded, up, listener=watcher, batch_size=10)
    watcher.join()
    assert report.counts.handled == 60
    vitals = [e.vitals for e in watcher.events if isinstance(e, Progress) and e.vitals]
    assert (vitals[-1].batch_size, vitals[-1].limit_per_s) == (7, 1000)
    verbs = [verb for verb, _ in watcher.steered]
    assert verbs == [Verb.PAUSE, Verb.TUNE, Verb.CONTINUE]


def test_a_run_that_was_killed_while_paused_is_still_paused(
    embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "has_died", lambda _: True)
    client = fill(embedded, "Thing", SIZE, n=0)
    watcher = Watcher(tmp_path / "state", PAUSE, at=0)

    class Gone(BaseException):
        pass

    def die() -> None:
        raise Gone

    watcher.while_paused = die
    with pytest.raises(Gone):
        run(embedded, up, listener=watcher, batch_size=5)
    watcher.join()
    resumed = Watcher(tmp_path / "state", CONTINUE, at=1)
    report = run(embedded, up, listener=resumed)
    resumed.join()
    assert (report.exit_code, report.runners) == (Exit.DONE, 2)
    assert [verb for verb, _ in resumed.steered] == [Verb.RESUME, Verb.CONTINUE]
    assert [thing["n"] for thing in everything(client, "Thing")] == [1] * SIZE
