"""The state directory is lost and the run is resumed: failures keep their names, log lines their
words. They are in Datastore, in a note beside the marker of their batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.cloud import datastore

from bulkup.cli import call
from bulkup.core.errors import Exit
from bulkup.core.events import Warned
from bulkup.core.model import Failure
from bulkup.engine.options import Options
from bulkup.state import notes
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.kinds import MARKER_KIND
from tests.chaos.bench import Crash, World
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Late, Lose, Pass, Seen, Twice
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

Code = grpc.StatusCode

OPTIONS = Options(batch_size=5, in_flight=2, max_failures=-1)

FAILING = {id_ for id_ in range(1, 61) if id_ <= 20 or id_ % 2}
"""Of 60. The batches of the first 20 write nothing."""


def poisoned(id_: int) -> str | None:
    return "raises" if id_ in FAILING else None


@pytest.fixture
def world(embedded: Server, make_world: MakeWorld) -> World:
    return make_world(embedded, 60, poison=poisoned)


def crash_at_commit(nth: int) -> Callable[[int, str], None]:
    """Crash instead of sending this commit, the first of which begins the run."""
    commits = 0

    def on_send(number: int, label: str) -> None:
        nonlocal commits
        commits += label in ("Commit", "Upkeep")
        if commits == nth:
            raise Crash

    return on_send


def crash(world: World, nth: int, options: Options = OPTIONS) -> None:
    """Run until the `nth` commit, and lose the state directory."""
    with pytest.raises(Crash):
        world.run("Talkative", options, on_send=crash_at_commit(nth))
    shutil.rmtree(world.state_dir)


def stored(world: World) -> tuple[list[Failure], list[str]]:
    checkpoint = Checkpoint.open(world.folder)
    try:
        return list(checkpoint.failures()), list(checkpoint.log_lines())
    finally:
        checkpoint.close()


def key_of(id_: int) -> str:
    return f"Key('Thing', {id_})"


def all_are_named_once(world: World) -> None:
    failures, log_lines = stored(world)
    assert sorted(failure.key for failure in failures) == sorted(map(key_of, FAILING))
    assert all(failure.error == "ValueError: this one is poisoned" for failure in failures)
    assert all("raise ValueError" in failure.traceback for failure in failures)
    assert sorted(log_lines) == sorted(f"saw {id_}" for id_ in range(1, 61))


def shown(capsys: pytest.CaptureFixture[str], world: World, run_id: str, *more: str) -> str:
    capsys.readouterr()
    assert call(["show", run_id, "--state-dir", str(world.state_dir), *more]) == 0
    return capsys.readouterr().out


def test_failures_are_named_after_the_disk_was_lost(
    server: Server, make_world: MakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world(server, 60, poison=poisoned)
    crash(world, 4)
    crash(world, 9)
    last = world.run("Talkative", OPTIONS)
    assert (last.exit_code, last.counts.handled) == (Exit.DONE_WITH_FAILURES, 60)
    assert last.counts.failed == len(FAILING)
    assert last.log_total == 60
    all_are_named_once(world)

    text = shown(capsys, world, last.run_id)
    assert all(f"{key_of(id_)}:" in text for id_ in FAILING)
    lines = shown(capsys, world, last.run_id, "--json").splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    named = [event["key"] for event in events if event["type"] == "failure"]
    assert sorted(named) == sorted(map(key_of, FAILING))

    world.clear_old_markers()
    assert world.markers() == []


@pytest.mark.parametrize("shards", [1, 3])
def test_notes_are_gone_with_the_end_of_the_run(world: World, shards: int) -> None:
    seen: list[bytes] = []

    def look(call: Seen) -> Action:
        seen.append(call.payload)
        return Pass()

    world.proxy.faults = look
    last = world.run("Talkative", Options(batch_size=5, shards=shards, max_failures=-1))
    assert last.exit_code == Exit.DONE_WITH_FAILURES
    assert sum(b"/note/" in payload for payload in seen) > 1
    assert world.markers() == []
    all_are_named_once(world)


def test_more_notes_than_one_commit_removes_are_gone_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "MAX_KNOWN_KEYS", 3)
    assert world.run("Talkative", OPTIONS).exit_code == Exit.DONE_WITH_FAILURES
    assert world.markers() == []


def test_a_run_without_failures_and_log_lines_writes_no_note(
    embedded: Server, make_world: MakeWorld
) -> None:
    world = make_world(embedded, 30, sparse=lambda id_: id_ > 10)
    seen: list[bytes] = []

    def look(call: Seen) -> Action:
        seen.append(call.payload)
        return Pass()

    world.proxy.faults = look
    assert world.run("Sparse", OPTIONS).success
    assert not any(b"/note" in payload for payload in seen)
    assert world.proxy.seen["Commit"] == 4  # nothing for the batches that write nothing


def test_the_budget_counts_failures_of_before_the_loss(world: World) -> None:
    crash(world, 4)
    last = world.run("Talkative", Options(batch_size=5, max_failures=len(FAILING) - 1))
    assert last.exit_code == Exit.FAILED
    assert last.counts.failed == len(FAILING)
    failures, _ = stored(world)
    assert len({failure.key for failure in failures}) == len(FAILING)


@pytest.mark.slow
def test_worker_processes_leave_the_same_notes(world: World) -> None:
    options = Options(batch_size=5, processes=2, limit=25, max_failures=-1)
    assert world.run("Talkative", options).exit_code == Exit.LIMIT
    shutil.rmtree(world.state_dir)
    assert world.run("Talkative", OPTIONS).counts.failed == len(FAILING)
    all_are_named_once(world)


@pytest.mark.parametrize(
    "action",
    [Twice(True), Lose(Code.DEADLINE_EXCEEDED), Late(Code.DEADLINE_EXCEEDED, None)],
    ids=["twice", "lost", "late"],
)
def test_a_late_copy_adds_no_failure_and_leaves_no_note(world: World, action: Action) -> None:
    """Of the commit of a batch that only fails, and of one that also writes."""
    sent = 0

    def faults(seen: Seen) -> Action:
        nonlocal sent
        sent += b"/note/" in seen.payload
        return action if b"/note/" in seen.payload and sent in (2, 6) else Pass()

    world.proxy.faults = faults
    last = world.run("Talkative", OPTIONS)
    world.proxy.release()
    assert (last.counts.handled, last.counts.failed) == (60, len(FAILING))
    all_are_named_once(world)
    world.clear_old_markers()
    assert world.markers() == []


def test_failures_that_nothing_names_are_counted_and_the_report_says_so(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an earlier version has no notes; somebody may have deleted or damaged them."""
    crash(world, 9)
    names = sorted(name for name in world.markers() if "/note/" in name)
    assert len(names) > 3
    damaged = datastore.Entity(world.client.key(MARKER_KIND, names[0]))
    damaged["note"] = b"no such thing"
    stranger = datastore.Entity(world.client.key(MARKER_KIND, f"{names[0]}/else"))
    world.client.put_multi([damaged, stranger])
    world.client.delete(world.client.key(MARKER_KIND, names[1]))
    warned: list[str] = []
    last = world.run(
        "Talkative",
        OPTIONS,
        listener=lambda event: warned.append(event.message) if isinstance(event, Warned) else None,
    )
    assert (last.counts.handled, last.counts.failed) == (60, len(FAILING))
    unnamed = len(FAILING) - len(stored(world)[0])
    assert unnamed == 10
    assert any(message.startswith("10 of ") for message in warned)
    assert "10 more failures: not named here" in shown(capsys, world, last.run_id)
