"""Copies of bulkup's own commits (records, claims, groups) that arrive at any later time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from bulkup.core.errors import NotFoundError
from bulkup.core.model import RunState
from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import CommitRequest
from bulkup.engine.options import Options
from bulkup.namespaces.group_run import run_in_namespaces
from bulkup.runs import execute
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import load_updater
from bulkup.runs.target import TargetOptions, open_target
from bulkup.state.kinds import CLAIM_KIND, GROUP_KIND, MARKER_KIND, RUN_KIND
from bulkup.state.run_records import Ledger, RecordMovedOn
from tests.chaos.bench import UPDATERS, Crash, World, quick_clock
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Pass, Seen, no_faults
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

SMALL = Options(batch_size=4, in_flight=2)
SIZE = 16


class Copies:
    """Copies of the commits that a server was sent."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.payloads: list[bytes] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep a copy of each of bulkup's own commits in this block."""

        def keep(seen: Seen) -> Action:
            if seen.method == "Upkeep":
                self.payloads.append(seen.payload)
            return Pass()

        self._world.proxy.faults = keep
        yield
        self._world.proxy.faults = no_faults

    def arrive(self, which: Callable[[Any], bool] = lambda _: True) -> int:
        """Those for which `which` holds of a mutation arrive now; returns how many there are."""
        arrived = [
            payload
            for payload in self.payloads
            if any(which(m) for m in CommitRequest.FromString(payload).mutations)
        ]
        for payload in arrived:
            self._world.proxy.send_again("Commit", payload)
        return len(arrived)


def _own(world: World) -> dict[Any, tuple[Any, ...]]:
    """The records, claims and groups that are there."""
    return {
        entity.key.flat_path: tuple(sorted((name, str(entity[name])) for name in entity))
        for kind in (RUN_KIND, CLAIM_KIND, GROUP_KIND)
        for entity in world.client.query(kind=kind).fetch()
    }


def _crash_at_commit(nth: int) -> Callable[[int, str], None]:
    commits = 0

    def on_send(number: int, method: str) -> None:
        nonlocal commits
        commits += method == "Commit"
        if commits == nth:
            raise Crash

    return on_send


def _killed_and_taken_over(world: World, **more: Any) -> None:
    with pytest.raises(Crash):
        world.run("Increment", SMALL, on_send=_crash_at_commit(3), **more)
    shutil.rmtree(world.state_dir)
    assert world.run("Increment", SMALL, **more).success


def _without_a_record(world: World) -> None:
    assert world.run("Increment", SMALL, keep_record=False).success


def _without_a_record_and_killed(world: World) -> None:
    _killed_and_taken_over(world, keep_record=False)


def _replaced_by_a_new_run(world: World) -> None:
    assert world.run("Increment", Options(batch_size=4, limit=8)).exit_code == 75
    shutil.rmtree(world.state_dir)
    assert world.run("Increment", SMALL, fresh=True).success


def _resumed_after_its_record_was_deleted(world: World) -> None:
    assert world.run("Increment", Options(batch_size=4, limit=8)).exit_code == 75
    world.client.delete_multi([e.key for e in world.client.query(kind=RUN_KIND).fetch()])
    assert world.resume(SMALL).success


@pytest.mark.parametrize(
    "story",
    [
        _killed_and_taken_over,
        _without_a_record,
        _without_a_record_and_killed,
        _replaced_by_a_new_run,
        _resumed_after_its_record_was_deleted,
    ],
)
@pytest.mark.client_side
def test_a_late_copy_of_a_record_or_a_claim_changes_nothing(
    server: Server, make_world: MakeWorld, story: Callable[[World], None]
) -> None:
    world = make_world(server, SIZE)
    copies = Copies(world)
    with copies.taken():
        story(world)
        before = _own(world)
        copies.arrive()
        assert _own(world) == before
        # The next run of the same work is unfinished now, and somebody else continues it.
        assert world.run("Increment", Options(batch_size=4, limit=8)).exit_code == 75
        unfinished = _own(world)
        copies.arrive()
        assert _own(world) == unfinished
    things = world.things()
    shutil.rmtree(world.state_dir)
    assert world.run("Increment", SMALL).success
    more = {id_: thing["n"] - things[id_]["n"] for id_, thing in world.things().items()}
    assert sorted(more.values()) == [0] * 8 + [1] * 8


def _chained(world: World, **more: Any) -> None:
    with pytest.raises(Crash):
        world.run("BeforeIncrement", SMALL, on_send=_crash_at_commit(3), **more)
    shutil.rmtree(world.state_dir)
    assert world.run("BeforeIncrement", SMALL, **more).success
    assert {thing["before"] for thing in world.things().values()} == {1}


def _chained_without_records(world: World) -> None:
    _chained(world, keep_record=False)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "story",
    [
        _killed_and_taken_over,
        _without_a_record_and_killed,
        _resumed_after_its_record_was_deleted,
        _chained,
        _chained_without_records,
    ],
)
def test_every_copy_of_a_bookkeeping_commit_may_arrive_again_and_again(
    server: Server, make_world: MakeWorld, story: Callable[[World], None]
) -> None:
    """Before each of bulkup's own commits, copies of all earlier ones arrive."""
    world = make_world(server, SIZE)
    payloads: list[bytes] = []

    def all_again(seen: Seen) -> Action:
        if seen.method == "Upkeep":
            for payload in payloads:
                assert world.proxy.send_again("Commit", payload) != "OK"
            payloads.append(seen.payload)
        return Pass()

    world.proxy.faults = all_again
    story(world)
    assert len(payloads) >= 4
    assert world.proxy.done["Late OK"] == 0
    assert world.violations() == []
    assert list(world.client.query(kind=CLAIM_KIND).fetch()) == []


def test_a_late_removal_of_a_claim_does_not_remove_the_claim_of_the_next_run(
    server: Server, make_world: MakeWorld
) -> None:
    """Without its claim, the next run is not found, and two runs work side by side."""
    world = make_world(server, SIZE)
    assert world.run("Increment", Options(batch_size=4, limit=4)).exit_code == 75
    _forget(world, RUN_KIND)
    copies = Copies(world)
    with copies.taken():
        second = world.run("Increment", Options(batch_size=4, limit=8))
    removals = copies.arrive(lambda mutation: mutation.WhichOneof("operation") == "delete")
    assert removals == 1
    shutil.rmtree(world.state_dir)
    last = world.run("Increment", SMALL)
    assert last.run_id == second.run_id
    assert {thing["n"] for id_, thing in world.things().items()} == {1, 2}
    assert sum(thing["n"] for thing in world.things().values()) == SIZE + 4


@pytest.mark.client_side
def test_the_end_of_a_run_leaves_the_claim_of_another_run_alone(
    server: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    """The claim of the first was deleted by hand, so another run of the same work has begun."""
    world = make_world(server, SIZE)
    assert world.run("Increment", Options(batch_size=4, limit=8)).exit_code == 75
    _forget(world, CLAIM_KIND)
    second = world.run(
        "Increment", Options(batch_size=4, limit=4), state_dir=tmp_path / "elsewhere"
    )
    assert world.resume(SMALL).success
    (claim,) = world.client.query(kind=CLAIM_KIND).fetch()
    assert claim["run"] == second.run_id
    shutil.rmtree(world.state_dir)
    assert world.run("Increment", SMALL).run_id == second.run_id
    assert {thing["n"] for thing in world.things().values()} == {2}


@pytest.mark.client_side
def test_the_end_of_a_run_does_not_depend_on_its_claim(
    server: Server, make_world: MakeWorld
) -> None:
    """Somebody touches or deletes the claim while the run works."""
    world = make_world(server, SIZE)
    commits = 0

    def change(number: int, method: str) -> None:
        nonlocal commits
        commits += method == "Commit"
        if method == "Commit" and commits == 2:
            (claim,) = world.client.query(kind=CLAIM_KIND).fetch()
            claim["note"] = "touched"
            world.client.put(claim)

    assert world.run("Increment", SMALL, on_send=change).success
    assert list(world.client.query(kind=CLAIM_KIND).fetch()) == []
    assert world.violations() == []


@pytest.mark.client_side
def test_an_end_that_is_refused_again_and_again_ends_the_runner_and_not_the_run(
    server: Server, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has changed the record, so there is nothing to be found out."""
    world = make_world(server, SIZE)

    def refuse(*args: Any, over: bool = False, **options: Any) -> Any:
        if over:
            raise RecordMovedOn from CallError("Commit", StatusCode.ABORTED, "too much contention")
        return write(*args, over=over, **options)

    write = Ledger.write
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", refuse)
        report = world.run("Increment", SMALL)
    assert (report.exit_code, report.only_end_left) == (1, True), report
    assert world.resume(SMALL).success
    assert world.violations() == []


def _bump(world: World, folder: Path, options: Options = SMALL) -> Any:
    with open_target(TargetOptions(world.server.project)) as target:
        context = RunContext(options, folder, lambda _: None, clock=quick_clock())
        loaded = load_updater(f"{UPDATERS}:Increment", {})
        return run_in_namespaces(loaded, target, "*", context)


@pytest.mark.parametrize("name", ["EM", "LF"])  # FS cannot list namespaces
def test_a_late_copy_of_a_group_does_not_say_that_all_is_done(
    request: pytest.FixtureRequest,
    make_world: MakeWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    server = request.getfixturevalue({"EM": "embedded", "LF": "lf"}[name])
    world = make_world(server, SIZE)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", world.proxy.address)
    copies = Copies(world)

    def of_group(mutation: Any) -> bool:
        return bool(mutation.insert.key.path and mutation.insert.key.path[-1].kind == GROUP_KIND)

    for times in (1, 2, 3):
        with copies.taken():
            assert _bump(world, tmp_path / "state").counts.handled == SIZE
        assert {thing["n"] for thing in world.things().values()} == {times}
        assert copies.arrive(of_group) == (1 if times == 1 else times)
        assert list(world.client.query(kind=GROUP_KIND).fetch()) == []


@pytest.mark.client_side
def test_markers_that_another_process_removes_meanwhile_are_removed(
    server: Server, make_world: MakeWorld
) -> None:
    world = make_world(server, SIZE)
    copies = Copies(world)
    with copies.taken():
        _killed_and_taken_over(world, keep_record=False)
    left = world.markers()
    world.client.delete_multi([world.client.key(MARKER_KIND, left[0])] if left else [])
    world.clear_old_markers()
    assert world.markers() == []


# --- a folder of a run whose record is gone ---


def _killed_here(world: World, **more: Any) -> None:
    with pytest.raises(Crash):
        world.run("Increment", SMALL, on_send=_crash_at_commit(3), **more)


def _forget(world: World, *kinds: str) -> None:
    for kind in kinds:
        world.client.delete_multi([e.key for e in world.client.query(kind=kind).fetch()])


def _cannot_be_resumed(world: World) -> None:
    with pytest.raises(NotFoundError, match="cannot be resumed"):
        world.resume(SMALL)
    assert world.violations() == []
    with pytest.raises(NotFoundError, match="nothing to resume"):
        world.resume(SMALL)


def test_a_folder_of_a_run_that_another_machine_finished_without_a_record_is_not_resumed(
    server: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(server, SIZE)
    _killed_here(world, keep_record=False)
    assert world.run("Increment", SMALL, state_dir=tmp_path / "elsewhere").success
    world.clear_old_markers()
    (nothing,) = world.client.query(kind=RUN_KIND).fetch()
    assert nothing["updater"] == "Nothing"
    _cannot_be_resumed(world)


@pytest.mark.parametrize("swept", [False, True], ids=["its markers still there", "swept"])
@pytest.mark.parametrize("kinds", [(RUN_KIND,), (RUN_KIND, CLAIM_KIND)], ids=["record", "both"])
@pytest.mark.client_side
def test_a_folder_of_a_finished_run_whose_record_was_deleted_by_hand_is_not_resumed(
    server: Server, make_world: MakeWorld, tmp_path: Path, kinds: tuple[str, ...], swept: bool
) -> None:
    world = make_world(server, SIZE)
    _killed_here(world)
    assert world.run("Increment", SMALL, state_dir=tmp_path / "elsewhere").success
    if swept:
        world.clear_old_markers()
    _forget(world, *kinds)
    _cannot_be_resumed(world)


@pytest.mark.parametrize("kinds", [(RUN_KIND,), (RUN_KIND, CLAIM_KIND)], ids=["record", "both"])
@pytest.mark.client_side
def test_a_folder_is_not_resumed_when_its_record_is_gone_and_another_machine_worked_on_the_run(
    server: Server, make_world: MakeWorld, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    world = make_world(server, SIZE)
    _killed_here(world)
    some = Options(batch_size=4, limit=4)
    stopped = world.run("Increment", some, state_dir=tmp_path / "elsewhere")
    assert stopped.state is RunState.STOPPED
    _forget(world, *kinds)
    with pytest.raises(NotFoundError, match="another process has worked on the run since"):
        world.resume(SMALL)
    assert max(thing["n"] for thing in world.things().values()) == 1


@pytest.mark.client_side
def test_a_folder_is_not_resumed_when_a_new_run_has_taken_its_place(
    server: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(server, SIZE)
    _killed_here(world)
    _forget(world, RUN_KIND)
    elsewhere = world.run(
        "Increment", Options(batch_size=4, limit=8), state_dir=tmp_path / "elsewhere"
    )
    assert elsewhere.state is RunState.STOPPED
    with pytest.raises(NotFoundError, match=f"run {elsewhere.run_id} has taken its place"):
        world.resume(SMALL)


@pytest.mark.client_side
def test_a_folder_is_resumed_when_only_its_record_was_deleted(
    server: Server, make_world: MakeWorld
) -> None:
    world = make_world(server, SIZE)
    _killed_here(world)
    _forget(world, RUN_KIND)
    assert world.resume(SMALL).success
    assert world.violations() == []


def _crash_before_the_record(number: int, method: str) -> None:
    if method == "Upkeep":
        raise Crash


@pytest.mark.client_side
def test_a_run_that_was_killed_before_its_record_was_written_is_resumed(
    server: Server, make_world: MakeWorld
) -> None:
    world = make_world(server, SIZE)
    with pytest.raises(Crash):
        world.run("Increment", SMALL, on_send=_crash_before_the_record)
    assert world.has_run()
    assert _own(world) == {}
    assert world.resume(SMALL).success
    assert world.violations() == []


@pytest.mark.client_side
def test_a_run_that_was_killed_before_it_began_and_was_finished_elsewhere_is_not_resumed(
    server: Server, make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(server, SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(execute, "Execution", _crash)
        with pytest.raises(Crash):
            world.run("Increment", SMALL, keep_record=False)
    for _ in range(2):  # the run, and another one of the same work
        elsewhere = world.run(
            "Increment", SMALL, state_dir=tmp_path / "elsewhere", keep_record=False
        )
        assert elsewhere.success
        world.clear_old_markers()
    with pytest.raises(NotFoundError, match="cannot be resumed"):
        world.resume(SMALL)
    assert {thing["n"] for thing in world.things().values()} == {2}


def _crash(*args: Any, **more: Any) -> None:
    raise Crash
