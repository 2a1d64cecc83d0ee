"""The machine loses power: the checkpoint is as it was some time ago, and nobody waits for
the commits in flight."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import grpc
import pytest

from bulkup.core.model import RunState
from bulkup.engine.options import Options
from bulkup.state.checkpoint import Checkpoint
from tests.chaos.bench import Crash, World
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.chaos.proxy import Action, Late, Pass, Seen
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

Code = grpc.StatusCode


class _PowerLoss:
    """Copies the checkpoint before one commit of a runner, and crashes at another.

    `copy_at` None: the copy is what is certainly on disk, the last synced step.
    """

    def __init__(self, world: World, copy_to: Path, *, copy_at: int | None, crash_at: int) -> None:
        self._world = world
        self._copy_to = copy_to
        self._copy_at = copy_at
        self._crash_at = crash_at
        self._commits = 0

    def __call__(self, number: int, method: str) -> None:
        if method != "Commit":
            return
        self._commits += 1
        if self._commits == self._copy_at:
            self._world.checkpoint_copy(self._copy_to)
        if self._commits == self._crash_at:
            raise Crash


def _crash_with_power_loss(
    world: World,
    tmp_path: Path,
    updater: str,
    options: Options,
    *,
    copy_at: int | None,
    crash_at: int,
) -> None:
    copy = tmp_path / "copy"
    power_loss = _PowerLoss(world, copy, copy_at=copy_at, crash_at=crash_at)
    with ExitStack() as stack:
        if copy_at is None:
            stack.enter_context(world.copying_what_is_synced(copy))
        with pytest.raises(Crash):
            world.run(updater, options, on_send=power_loss)
    world.restore_checkpoint(copy)
    shutil.rmtree(copy)


@pytest.mark.one_in(2)
@STRIDES
@pytest.mark.parametrize(("copy_at", "in_flight"), [(1, 1), (1, 3), (4, 3)])
def test_an_older_checkpoint_resumes_to_the_same_end(
    lf: Server, make_world: MakeWorld, tmp_path: Path, copy_at: int, in_flight: int, stride: int
) -> None:
    for crash_at in range(copy_at + in_flight % stride, 15, stride):
        world = make_world(lf, 30)
        options = Options(batch_size=5, in_flight=in_flight)
        _crash_with_power_loss(
            world, tmp_path, "IncrementWithChild", options, copy_at=copy_at, crash_at=crash_at
        )
        report = world.resume(options)
        assert report.exit_code == 0, report.reason
        assert world.violations(children=True) == [], f"crashed at commit {crash_at}"
        world.clear_old_markers()
        assert world.markers() == []


@pytest.mark.one_in(3)
@STRIDES
@pytest.mark.parametrize("late", [2, pytest.param(3, marks=pytest.mark.chaos), 5])
@pytest.mark.parametrize(("in_flight", "updater"), [(1, "Increment"), (3, "OneChild")])
def test_a_commit_in_flight_at_a_power_loss_is_applied_once_whenever_it_arrives(
    lf: Server,
    make_world: MakeWorld,
    tmp_path: Path,
    updater: str,
    in_flight: int,
    late: int,
    stride: int,
) -> None:
    """The `late`-th commit was sent and has not arrived; the checkpoint knows of no commit."""
    options = Options(batch_size=5, in_flight=in_flight)
    for arrives_at in range(late, 28, 2 * stride):
        world = make_world(lf, 30)
        world.proxy.faults = lambda seen: (
            Late(Code.UNAVAILABLE, None) if seen.method == "Commit" and seen.nth == late else Pass()
        )
        _crash_with_power_loss(world, tmp_path, updater, options, copy_at=1, crash_at=late + 1)
        assert world.proxy.held == 1
        begun = sum(world.proxy.seen.values())

        def arrive(seen: Seen, begun: int = begun, world: World = world) -> Action:
            if seen.number == begun + arrives_at:  # noqa: B023 (used before the next iteration)
                world.proxy.release()
            return Pass()

        world.proxy.faults = arrive
        report = world.resume(options)
        world.proxy.release()
        assert report.exit_code == 0, report.reason
        assert (
            world.violations(incremented=updater == "Increment", children=updater == "OneChild")
            == []
        ), f"arrived at call {arrives_at} of the second runner"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("crash_at", [4, 5, 6, 7])
def test_an_older_checkpoint_resumes_after_a_batch_that_failed_as_a_whole(
    lf: Server, make_world: MakeWorld, tmp_path: Path, crash_at: int
) -> None:
    """A batch that wrote nothing has no marker, although the low-water mark has passed it."""
    world = make_world(lf, 8, poison=lambda id_: "long string" if id_ == 3 else None)
    options = Options(batch_size=1, in_flight=1, max_failures=-1)
    _crash_with_power_loss(world, tmp_path, "Poisoned", options, copy_at=1, crash_at=crash_at)
    report = world.resume(options)
    assert report.state is RunState.FINISHED, report.reason
    assert world.violations() == ["thing 3 has n = 0"]


@pytest.mark.parametrize("poison", ["long string", "raises"])
def test_a_failure_is_still_named_after_a_power_loss(
    lf: Server, make_world: MakeWorld, tmp_path: Path, poison: str
) -> None:
    world = make_world(lf, 8, poison=lambda id_: poison if id_ == 3 else None)
    options = Options(batch_size=2, in_flight=1, max_failures=-1)
    _crash_with_power_loss(world, tmp_path, "Poisoned", options, copy_at=None, crash_at=4)
    report = world.resume(options)
    assert world.violations() == ["thing 3 has n = 0"]
    assert [f.key for f in report.failures] == ["Key('Thing', 3)"]
    assert report.exit_code == 3


def test_the_report_after_a_power_loss_counts_every_entity(
    lf: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(lf, 40)
    options = Options(batch_size=5, in_flight=1)
    _crash_with_power_loss(world, tmp_path, "Increment", options, copy_at=None, crash_at=7)
    report = world.resume(options)
    assert report.exit_code == 0
    assert world.violations() == []
    assert report.counts.handled == report.counts.puts == 40


def test_a_power_loss_just_after_the_end_of_a_run_leaves_it_finished(
    lf: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    """Datastore has the end of the run, the checkpoint does not; its counts are complete anyway."""
    world = make_world(lf, 12, poison={5: "raises", 11: "bad name"}.get)
    options = Options(batch_size=4, in_flight=2, max_failures=-1)
    dying = patch.object(Checkpoint, "end_work", side_effect=Crash)
    with world.copying_what_is_synced(tmp_path / "synced"), dying, pytest.raises(Crash):
        world.run("Poisoned", options)
    assert world.record_states() == [RunState.FINISHED]
    world.restore_checkpoint(tmp_path / "synced")
    counts = world.stored_counts()
    assert (counts.handled, counts.puts, counts.failed) == (12, 10, 2)
