"""A run through random faults, all drawn from one seed: faults on calls, live users, crashes, power
losses, stops and resumes, until the run is finished."""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import grpc

from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.model import Counts, RunState
from bulkup.engine import splits
from bulkup.engine.options import Options
from tests.chaos.bench import Crash, World, quick_clock
from tests.chaos.proxy import Action, Cut, Delay, Late, Lose, Pass, Refuse, Seen, Twice
from tests.chaos.updaters import MAKERS

Code = grpc.StatusCode

AMBIGUOUS = [
    Code.UNAVAILABLE, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED,
    Code.CANCELLED, Code.INTERNAL, Code.UNKNOWN,
]  # fmt: skip
NOT_APPLIED = [Code.ABORTED, Code.RESOURCE_EXHAUSTED]

STORMY_RUNNERS = 6
"""After this many runners the faults stop, so that every run finishes."""

MOST_RUNNERS = 12


class FaultPlan:
    """Chooses a fault for each call from the seed, the method and the number of the call among
    those of its method. So the order in which calls of several methods arrive matters little."""

    def __init__(self, seed: int, world: World) -> None:
        rng = random.Random(f"{seed}/weather")
        self._seed = seed
        self._world = world
        self.calm = False
        self.rate = {
            "Commit": rng.choice([0.1, 0.3, 0.5]),
            "Upkeep": rng.choice([0.0, 0.1, 0.3]),
            "RunQuery": rng.choice([0.0, 0.1]),
            "Lookup": rng.choice([0.0, 0.2]),
            "AllocateIds": rng.choice([0.0, 0.2]),
        }
        self.live_rate = rng.choice([0.0, 0.0, 0.2, 0.5])

    def __call__(self, seen: Seen) -> Action:
        rng = random.Random(f"{self._seed}/{seen.method}/{seen.nth}")
        if self.calm:
            return Pass()
        if seen.method in ("Commit", "Lookup") and rng.random() < self.live_rate:
            self._world.touch(rng.randint(1, self._world.size))
        if rng.random() >= self.rate.get(seen.method, 0.0):
            return Pass()
        return self._fault(rng, commit=seen.method in ("Commit", "Upkeep"))

    def _fault(self, rng: random.Random, *, commit: bool) -> Action:
        code = rng.choice(AMBIGUOUS)
        kinds = ["refuse", "lose", "cut", "delay"]
        if commit:
            kinds += ["late", "late", "late", "twice", "lose"]
        kind = rng.choice(kinds)
        if kind == "refuse":
            return Refuse(rng.choice([*AMBIGUOUS, *NOT_APPLIED]))
        if kind == "lose":
            return Lose(code)
        if kind == "cut":
            return Cut(forward=rng.random() < 0.5)
        if kind == "twice":
            return Twice(give_second=rng.random() < 0.5)
        if kind == "late":
            return Late(code, rng.choice([1, 2, 3, 4, 6, 9, 13, 20, None]))
        return Delay(rng.choice([0.01, 0.03, 0.1]))


@dataclass
class Weathered:
    """How a run that went through a storm ended."""

    story: list[str] = field(default_factory=list)
    finished: bool = False
    lost: list[str] = field(default_factory=list)
    """How local state was lost, partly or wholly."""
    counts: Counts = field(default_factory=Counts)
    """As `bulkup show` prints them, if the disk of the last runner was not lost."""


def weather(world: World, seed: int, updater: str, tmp_path: Path) -> Weathered:
    """Run `updater` through the storm of `seed` until it is finished, then deliver late calls."""
    rng, clocks = random.Random(f"{seed}/runners"), random.Random(f"{seed}/clocks")
    plan = FaultPlan(seed, world)
    world.proxy.faults = plan
    end = Weathered()
    with ExitStack() as stack:
        # Split kinds that are as small as these.
        stack.enter_context(patch.object(splits, "MIN_PROBED_ENTITIES", 1))
        if rng.random() < 0.25:
            ids = random.Random(f"{seed}/live")
            stack.enter_context(world.live_writers(1, lambda: ids.randint(1, world.size)))
        for nth in range(MOST_RUNNERS):
            plan.calm = nth >= STORMY_RUNNERS
            clock = quick_clock(ahead_s=clocks.choice([0.0, 3600.0, -3600.0]))
            _one_runner(world, rng, updater, tmp_path / "synced", end, calm=plan.calm, clock=clock)
            if RunState.FINISHED in world.record_states():
                end.finished = True
                break
    world.proxy.release()
    plan.calm = True
    if world.has_run():
        end.counts = world.stored_counts()
    return end


def _one_runner(
    world: World,
    rng: random.Random,
    updater: str,
    synced: Path,
    end: Weathered,
    *,
    calm: bool,
    clock: Clock,
) -> None:
    """Start one runner, on a machine with this clock, and let it end, stop or crash."""
    options = Options(
        batch_size=rng.choice([1, 3, 5, 8]),
        in_flight=rng.choice([1, 2, 3, 6]),
        shards=rng.choice([1, 1, 2, 4]),
        limit=None if calm or rng.random() < 0.8 else rng.randint(1, world.size),
        conflict_retries=10_000,
        max_failures=-1 if updater == "Poisoned" else 0,
    )
    crash_at = 0 if calm or rng.random() < 0.4 else rng.randint(2, 40)
    disk = rng.choice(["stays", "stays", "loses what was not synced", "is lost"])

    def on_send(number: int, method: str) -> None:
        if number == crash_at:
            raise Crash

    with ExitStack() as stack:
        stack.enter_context(world.copying_what_is_synced(synced))
        try:
            if world.has_run():
                report = world.resume(options, on_send=on_send, clock=clock)
            else:
                report = world.run(updater, options, on_send=on_send, clock=clock)
            how = f"{report.state.value} ({report.reason[:60]})"
            assert report.exit_code is not Exit.HELD, (
                f"{end.story}; {how}: there was no other runner"
            )
        except BulkupError as error:
            how = f"did not start ({error.message[:60]})"
        except Crash:
            how = f"crashed at call {crash_at}, the disk {disk}"
            _lose(world, updater, disk, synced, end)
    shutil.rmtree(synced, ignore_errors=True)
    end.story.append(
        f"batch {options.batch_size}, in flight {options.in_flight}, shards {options.shards}: {how}"
    )


def _remove(folder: Path) -> None:
    """Also while somebody who steers the run writes there."""
    while folder.exists():
        with suppress(OSError):
            shutil.rmtree(folder)


def _lose(world: World, updater: str, disk: str, synced: Path, end: Weathered) -> None:
    if not world.has_run() or disk == "stays":
        return
    if updater in MAKERS and world.server.name == "LF":
        # It does not say when an entity was created, so such a run needs its own state.
        disk = "loses what was not synced"
    end.lost.append(disk)
    if disk == "is lost":
        _remove(world.state_dir)
    elif synced.exists():
        world.restore_checkpoint(synced)
