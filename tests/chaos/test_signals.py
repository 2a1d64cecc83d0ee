"""Signals to real processes: interrupt and resume, suspend, interrupt while no answers come."""

from __future__ import annotations

import os
import signal
import threading
from itertools import product
from pathlib import Path

import grpc
import pytest

from bulkup.datastore.retry import AFTER_STOP_S
from bulkup.engine.options import Options
from tests.chaos.bench import UPDATERS, World
from tests.chaos.child import Outcome, bulkup, outcome, start
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Hang, Lose, Pass, Seen
from tests.conftest import Server

SLEEP_S = 3
"""How long the process is suspended."""

HANGING_END_S = AFTER_STOP_S + 20
"""The time that bulkup allows calls in flight, and slack for a busy machine."""

OPTIONS = ("--batch-size", "5", "--in-flight", "2", "-q")


@pytest.fixture
def world(lf: Server, make_world: MakeWorld) -> World:
    return make_world(lf, 60)


ANY = ("Commit", "RunQuery", "Lookup", "AllocateIds")


class _AtCommit:
    """Lets the nth call of `methods` and all after it hang; `there` is set when it comes."""

    def __init__(self, nth: int, *, methods: tuple[str, ...] = ("Commit",)) -> None:
        self._nth = nth
        self._methods = methods
        self._calls = 0
        self.there = threading.Event()
        self.over = False

    def __call__(self, seen: Seen) -> Action:
        if seen.method in self._methods:
            self._calls += 1
            if self._calls >= self._nth and not self.over:
                self.there.set()
                return Hang()
        return Pass()


def _run_args(world: World) -> list[str]:
    return [
        "run", f"{UPDATERS}:IncrementWithChild", "--project", world.server.project, *OPTIONS,
        "--state-dir", str(world.state_dir),
    ]  # fmt: skip


def _resume(world: World, folder: Path) -> Outcome:
    args = ["resume", *OPTIONS, "--state-dir", str(world.state_dir)]
    return bulkup(args, emulator=world.proxy.address, folder=folder)


def _signalled_while_hanging(
    world: World, tmp_path: Path, hang: _AtCommit, which: signal.Signals, *, answers_later: bool
) -> Outcome:
    world.proxy.faults = hang
    process, folder = start(_run_args(world), emulator=world.proxy.address, folder=tmp_path)
    assert hang.there.wait(30)
    assert process.pid is not None
    os.kill(process.pid, which)
    if answers_later:
        hang.over = True
        world.proxy.unhang()
    process.join(HANGING_END_S)
    assert not process.is_alive(), "it does not end"
    return outcome(process, folder)


@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_commits_in_flight_and_it_can_be_resumed(
    world: World, tmp_path: Path, which: signal.Signals, code: int
) -> None:
    hang = _AtCommit(3)
    ended = _signalled_while_hanging(world, tmp_path, hang, which, answers_later=True)
    assert ended.code == code, ended.output
    assert 0 < sum(t["n"] for t in world.things().values()) < 60
    resumed = _resume(world, tmp_path)
    assert resumed.code == 0, resumed.output
    assert world.violations(children=True) == []
    assert world.markers() == []


@pytest.mark.chaos
@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("nth", "methods"), [(6, ("Commit",)), (15, ANY)])
def test_a_signal_ends_the_run_in_time_when_the_server_does_not_answer(
    world: World,
    tmp_path: Path,
    which: signal.Signals,
    code: int,
    nth: int,
    methods: tuple[str, ...],
) -> None:
    hang = _AtCommit(nth, methods=methods)
    ended = _signalled_while_hanging(world, tmp_path, hang, which, answers_later=False)
    hang.over = True
    world.proxy.unhang()
    assert ended.code == code, ended.output
    resumed = _resume(world, tmp_path)
    assert resumed.code == 0, resumed.output
    assert world.violations(children=True) == []


@pytest.mark.chaos
@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("nth", [3, 6])
def test_a_signal_ends_a_run_that_has_not_begun_in_time_when_the_server_does_not_answer(
    world: World, tmp_path: Path, which: signal.Signals, code: int, nth: int
) -> None:
    """And is not taken for an outage."""
    hang = _AtCommit(nth, methods=ANY)
    ended = _signalled_while_hanging(world, tmp_path, hang, which, answers_later=False)
    assert ended.code == code, ended.output
    assert f"interrupted by {which.name} while 127.0.0.1" in ended.output
    hang.over = True
    world.proxy.unhang()


MIGRATION = """\
from bulkup import Updater

class Increment(Updater):
    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        entity["n"] += 1
        self.put(entity)
"""

WRITING = [
    "run Increment --ranges 3",
    "run Increment --all-namespaces --yes",
    "migrate FOLDER --yes",
    "migrate FOLDER --all-namespaces --yes",
    "resume RUN",
    "undo RUN --yes",
]
READING = [
    "plan Increment --full",
    "verify AtLeastOne",
    "run Increment --dry-run",
    "migrate FOLDER --dry-run",
]


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("command", "nth"),
    [*product(READING + WRITING, (1, 3)), *product(WRITING, (5, 8))],
)
def test_a_signal_ends_every_command_in_time_when_the_server_does_not_answer(
    embedded: Server, make_world: MakeWorld, tmp_path: Path, command: str, nth: int
) -> None:
    """At any call of its beginning, and that is not taken for an outage."""
    world = make_world(embedded, 60)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/0001_increment.py").write_text(MIGRATION)
    words = {"FOLDER": str(tmp_path / "migrations")}
    if "RUN" in command:
        limit = 20 if command.startswith("resume") else None
        words["RUN"] = world.run("Increment", Options(batch_size=5, limit=limit)).run_id
    first, what, *rest = [words.get(word, word) for word in command.split()]
    what = f"{UPDATERS}:{what}" if what.isalpha() else what
    args = [first, what, *rest, "--project", world.server.project]
    if first not in ("plan", "verify"):
        args += ["--state-dir", str(world.state_dir)]
    hang = _AtCommit(nth, methods=ANY)
    world.proxy.faults = hang
    process, folder = start(args, emulator=world.proxy.address, folder=tmp_path)
    assert hang.there.wait(30), (folder / "output").read_text()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(HANGING_END_S)
    ended = outcome(process, folder)
    assert ended.code == 130, ended.output
    assert "stopped answering" not in ended.output
    hang.over = True
    world.proxy.unhang()


def test_a_second_signal_ends_the_run_at_once_and_it_can_be_resumed(
    world: World, tmp_path: Path
) -> None:
    hang = _AtCommit(3)
    world.proxy.faults = hang
    process, folder = start(_run_args(world), emulator=world.proxy.address, folder=tmp_path)
    assert hang.there.wait(30)
    assert process.pid is not None
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        process.join(2)  # two signals that arrive together may be delivered as one
    process.join(10)
    assert not process.is_alive()
    assert outcome(process, folder).code == 130
    hang.over = True
    world.proxy.unhang()
    resumed = _resume(world, tmp_path)
    assert resumed.code == 0, resumed.output
    assert world.violations(children=True) == []


def test_a_suspended_process_continues_and_applies_nothing_twice(
    world: World, tmp_path: Path
) -> None:
    """While it is suspended answers arrive or are lost, and live users write what it has read."""
    there = threading.Event()
    awake = threading.Event()

    def asleep(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth in (3, 4):
            there.set()
            awake.wait(SLEEP_S)
            return Lose(grpc.StatusCode.UNAVAILABLE) if seen.nth == 4 else Pass()
        return Pass()

    world.proxy.faults = asleep
    process, folder = start(_run_args(world), emulator=world.proxy.address, folder=tmp_path)
    assert there.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    for id_ in (1, 12, 14, 25, 60):
        world.touch(id_)
    threading.Event().wait(SLEEP_S)  # this suspension is the test
    os.kill(process.pid, signal.SIGCONT)
    awake.set()
    process.join(60)
    ended = outcome(process, folder)
    assert ended.code == 0, ended.output
    assert world.violations(children=True) == []
