"""Processes that share a run in ranges, and are killed and suspended again and again.

Their leases are short, so that one that is suspended for some seconds has lost its range.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.chaos import child
from tests.chaos.updaters import SLOWLY_S

LEASE_S = 3.0
"""In place of 60 s."""

BUSY_S = 240.0
"""How long a fight may take on a busy machine."""


def _shorten() -> None:
    """Time runs twenty times as fast for leases, and for those who conduct."""
    from bulkup.engine import splits
    from bulkup.runs.ranges import at_work, conducting, view, work
    from bulkup.state import lease, taking

    short: dict[Any, dict[str, float]] = {
        lease: {"LEASE_S": LEASE_S, "RENEW_S": 0.7, "RETRY_RENEWAL_S": 0.3},
        taking: {"LEASE_S": LEASE_S, "WAIT_STEP_S": 0.1},
        view: {"LEASE_S": LEASE_S},
        conducting: {"LEASE_S": LEASE_S, "OVER_S": 3.0},
        at_work: {"SHARE_WITHIN_S": LEASE_S / 2},
        work: {"LOOK_AGAIN_S": 0.2},
        splits: {"MIN_PROBED_ENTITIES": 1},
    }
    for module, values in short.items():
        for name, value in values.items():
            assert hasattr(module, name)
            setattr(module, name, value)
    work.TIMES = view.Times(look_every_s=0.2, conduct_every_s=0.7, grace_s=0.4)


def _live(args: list[str], emulator: str, folder: Path, slowly_s: float) -> None:
    out = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["DATASTORE_EMULATOR_HOST"] = emulator
    os.environ[SLOWLY_S] = str(slowly_s)
    _shorten()
    from bulkup.cli import call

    code = call(args)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass
class Fighter:
    """One place from which a run is worked on: a state directory, and a process at a time."""

    args: list[str]
    emulator: str
    folder: Path
    slowly_s: float
    process: BaseProcess | None = None
    stopped_until: float = 0.0
    """0: it is not suspended."""
    codes: list[int] = field(default_factory=list)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        args = [*self.args, "--state-dir", str(self.folder / "state")]
        self.process = child.context().Process(
            target=_live, args=(args, self.emulator, self.folder, self.slowly_s)
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process is not None
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def reap(self) -> None:
        """Note how the process ended, once it has."""
        if self.process is not None and not self.process.is_alive():
            self.process.join()
            assert self.process.exitcode is not None
            self.codes.append(self.process.exitcode)
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.codes.append(-9)
            self.process, self.stopped_until = None, 0.0

    def suspend(self, seconds: float) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped_until = time.monotonic() + seconds

    def wake(self) -> None:
        self.stopped_until = 0.0
        if self.is_alive:
            os.kill(self.pid, signal.SIGCONT)

    def output(self) -> str:
        path = self.folder / "output"
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Fight:
    """What has happened."""

    kills: int = 0
    suspensions: int = 0
    lost: int = 0
    """State directories that were deleted."""

    @property
    def events(self) -> int:
        return self.kills + self.suspensions


FINISHED = (0, 3)
"""Exit codes of a process that has seen the run finished."""


def fight(
    fighters: list[Fighter], seed: int, *, most_events: int = 10_000, pause_s: float = 0.4
) -> Fight:
    """Let all work on the run until it is finished, while they are killed, suspended beyond their
    leases, and started again."""
    rng, done = random.Random(seed), Fight()
    give_up = time.monotonic() + BUSY_S
    for fighter in fighters:
        fighter.start()
    next_event = time.monotonic() + 1.0
    while True:
        now = time.monotonic()
        if now > give_up:
            outputs = "\n---\n".join(f.output()[-3000:] for f in fighters)
            for fighter in fighters:
                fighter.kill()
            raise TimeoutError(f"{done}\n{outputs}")
        is_finished = any(code in FINISHED for f in fighters for code in f.codes)
        for fighter in fighters:
            if fighter.stopped_until and (is_finished or now >= fighter.stopped_until):
                fighter.wake()
            fighter.reap()
            if fighter.process is None and not is_finished:
                fighter.start()
        if is_finished and not any(f.is_alive for f in fighters):
            return done
        if not is_finished and now >= next_event and done.events < most_events:
            next_event = now + rng.uniform(0.2, 2 * pause_s)
            _strike(rng, fighters, done)
        time.sleep(0.02)  # the pace of the fight; nothing depends on it


def _strike(rng: random.Random, fighters: list[Fighter], done: Fight) -> None:
    awake = [f for f in fighters if f.is_alive and not f.stopped_until]
    if not awake:
        return
    victim = rng.choice(awake)
    if rng.random() < 0.4 and len(awake) > 1:
        victim.suspend(LEASE_S + rng.uniform(0.3, 1.5))
        done.suspensions += 1
        return
    victim.kill()
    done.kills += 1
    if rng.random() < 0.6:
        shutil.rmtree(victim.folder / "state", ignore_errors=True)
        done.lost += 1
