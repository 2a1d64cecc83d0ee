"""A run that is steered while it works: paused it commits nothing, and nothing is ever lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.errors import Exit, NotFoundError
from bulkup.core.events import Event, Progress, RunEnded, RunStarted, RunState, Steered
from bulkup.core.steering import UNSTEERED, SteerState, Tuning, Verb
from bulkup.core.vitals import Phase
from bulkup.engine.options import Options
from bulkup.engine.steered import ENDING
from bulkup.runs.context import RunContext
from bulkup.runs.steer import Change, Outcome, SteerResult, steer
from bulkup.runs.steered_start import steering_of_runner
from bulkup.state import taking
from bulkup.state.steering import (
    Answer,
    change_steering,
    read_answer,
    read_steering,
    write_answer,
)
from tests.conftest import Server
from tests.engine.conftest import Run, Start, everything, fill

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
                # On a busy machine the run would be over before the thread has asked.
                give_up = time.monotonic() + 20
                while not read_steering(self._state_dir / self.run_id).number:
                    assert time.monotonic() < give_up
                    time.sleep(0.002)
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


@pytest.mark.parametrize("answers", [True, False])
def test_a_run_that_was_at_its_end_is_finished_and_not_cancelled(
    embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    fill(embedded, "Thing", 10, n=0)
    report = run(embedded, up, limit=5, batch_size=5)
    folder = tmp_path / "state" / report.run_id
    asked: list[Path] = []

    class Ends:
        """The lock of a process that writes the end of its run when it is cancelled."""

        def __init__(self, of: Path) -> None:
            self.of = of

        def is_held(self) -> bool:
            asked.append(self.of)
            if len(asked) == 1:
                if answers:
                    write_answer(folder, Answer(1, ENDING))
            elif len(asked) == 2:
                assert read_steering(folder).is_cancelled
                monkeypatch.undo()
                assert run(embedded, up).state is RunState.FINISHED
            return len(asked) == 1

    monkeypatch.setattr("bulkup.runs.steer.RunLock", Ends)
    with pytest.raises(NotFoundError, match="is finished, so there is nothing to cancel"):
        steer(report.run_id, CANCEL, state_dir=tmp_path / "state")


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
    monkeypatch.setattr(taking, "has_died", lambda _: True)
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


@bulkup.updater(kind="Thing", then=up)
def first(entity: Entity) -> Entity:
    entity["first"] = True
    return entity


def test_a_chain_is_steered_by_the_id_of_its_first_run(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    """Paused in its last moment, the first run is finished; its successor is paused and tuned."""
    client = fill(embedded, "Thing", 20, n=0)
    state = tmp_path / "state"
    events: list[Event] = []
    threads: list[threading.Thread] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, RunEnded) and event.report.successor:
            adopted = change_steering(
                state / event.report.run_id,
                lambda there: there.after(Verb.PAUSE, by="x", at=1.0) or there,
            )
            assert adopted.is_paused  # too late: the run is over
        if isinstance(event, RunStarted) and "+1" in event.run_id:
            for verb in (Verb.TUNE, Verb.CANCEL):
                tuning = Tuning(batch_size=3) if verb is Verb.TUNE else Tuning()
                threads.append(threading.Thread(target=ask, args=[Change(verb, tuning)]))
            threads[0].start()
        if isinstance(event, Steered) and event.verb is Verb.TUNE:
            threads[1].start()

    def ask(change: Change) -> None:
        first_id = next(e.run_id for e in events if isinstance(e, RunStarted))
        found = steer(first_id, change, state_dir=state, by="ann@host")
        assert found.run_id == f"{first_id}+1"

    report = run(embedded, first, listener=listen, max_rate=40, batch_size=5)
    for thread in threads:
        thread.join(60)
    assert (report.exit_code, report.reason) == (Exit.CANCELLED, "cancelled by ann@host")
    assert run(embedded, first).exit_code == Exit.DONE
    things = everything(client, "Thing")
    assert [(thing["n"], thing["first"]) for thing in things] == [(1, True)] * 20


def test_an_option_of_a_resume_replaces_what_was_tuned(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 30, n=0)
    state = tmp_path / "state"
    report = run(embedded, up, limit=5, batch_size=5)
    result = steer(report.run_id, Change(Verb.TUNE, Tuning("7", 2, 9)), state_dir=state)
    assert (result.outcome, result.changed) == (Outcome.NOBODY, True)
    report = run(embedded, up, limit=5, max_rate=5000, listener=(events := []).append)
    assert read_steering(state / report.run_id).tuning == Tuning(None, 2, 9)
    vitals = [e.vitals for e in events if isinstance(e, Progress) and e.vitals]
    assert vitals[-1].limit_per_s == 5000


def test_a_cancel_while_another_process_waits_for_the_run_stops_both(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    context = RunContext(Options(), tmp_path, print)
    cancelled = UNSTEERED.after(Verb.CANCEL, by="ann@host", at=1.0)
    assert cancelled is not None
    record = SimpleNamespace(steering=cancelled)
    context.carried.before_wait = UNSTEERED
    found = steering_of_runner(context, tmp_path, record)  # type: ignore[arg-type]
    assert found.is_cancelled
    context.carried.before_wait = None
    found = steering_of_runner(context, tmp_path, record)  # type: ignore[arg-type]
    assert (found.state, found.number) == (SteerState.WORKING, 2)


def test_a_pause_counts_for_the_time_that_a_command_may_take(
    embedded: Server, start_on: Start, tmp_path: Path
) -> None:
    client = fill(embedded, "Thing", 20, n=0)
    watcher = Watcher(tmp_path / "state", PAUSE, at=0)
    report = start_on(embedded, up, watcher, max_time_s=1.5, batch_size=5)
    watcher.join()
    assert (report.state, report.exit_code) == (RunState.STOPPED, Exit.LIMIT)
    assert watcher.steered == [(Verb.PAUSE, SteerState.PAUSED)]
    assert sum(thing["n"] for thing in everything(client, "Thing")) == report.counts.handled
