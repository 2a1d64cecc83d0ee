"""Real processes that run the command line and can be killed at an exact event.

They are forked from a server process that has everything imported and nothing opened, since a
fresh interpreter for each of a hundred crash points would take minutes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

EVENTS = ("sent", "answer", "write", "written")
"""A call was handed to gRPC; an answer was received; a local write is about to be committed, or was
committed, to the checkpoint file."""

CHILD_TIMEOUT_S = 60


@dataclass(frozen=True)
class Death:
    """Kill the process at the `at`-th `event`."""

    event: str
    at: int


@dataclass(frozen=True)
class Outcome:
    code: int
    """Exit code; -9 when killed."""
    output: str
    events: dict[str, int]
    """How often each event happened; only known if the child was not killed."""

    def was_killed(self, death: Death) -> bool:
        """Whether it died as told. A run may take a call less than the one before it, of which
        nobody waits for the answer; then it has ended before."""
        told = f"killed at {death.event} {death.at}: {self.output}"
        if self.code == 0:
            assert self.events[death.event] < death.at, told
            return False
        assert self.code == -9, told
        return True


def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(
        ["tests.chaos.child", "bulkup.cli.run", "bulkup.cli.resume", "bulkup.runs.start",
         "bulkup.runs.resume", "bulkup.report", "bulkup.cli.session", "google.cloud.datastore"]
    )  # fmt: skip
    return found


def bulkup(
    args: Sequence[str], *, emulator: str, folder: Path, death: Death | None = None
) -> Outcome:
    """Run the command line in its own process until it ends or is killed."""
    process, files = start(args, emulator=emulator, folder=folder, death=death)
    process.join(CHILD_TIMEOUT_S)
    return outcome(process, files)


def start(
    args: Sequence[str], *, emulator: str, folder: Path, death: Death | None = None
) -> tuple[BaseProcess, Path]:
    """Start the same without waiting; `outcome` returns the result."""
    folder.mkdir(parents=True, exist_ok=True)
    process = context().Process(target=_live, args=(list(args), emulator, folder, death))
    process.start()
    return process, folder


def outcome(process: BaseProcess, folder: Path) -> Outcome:
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError((folder / "output").read_text(errors="replace"))
    assert process.exitcode is not None
    events = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "events").read_text().splitlines():
            name, count = line.split()
            events[name] = int(count)
    return Outcome(process.exitcode, (folder / "output").read_text(errors="replace"), events)


def _live(args: list[str], emulator: str, folder: Path, death: Death | None) -> None:
    out = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    (folder / "events").unlink(missing_ok=True)
    os.environ["DATASTORE_EMULATOR_HOST"] = emulator
    counter = _Counter(death)
    _watch(counter)
    from bulkup.cli import call

    code = call(args)
    (folder / "events").write_text("".join(f"{k} {v}\n" for k, v in counter.counts.items()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Counter:
    def __init__(self, death: Death | None) -> None:
        self._death = death
        self.counts = dict.fromkeys(EVENTS, 0)

    def happened(self, event: str) -> None:
        self.counts[event] += 1
        death = self._death
        if death and death.event == event and death.at == self.counts[event]:
            os.kill(os.getpid(), signal.SIGKILL)


def _watch(counter: _Counter) -> None:
    from bulkup.datastore.call import Call
    from bulkup.state.checkpoint import Checkpoint

    send, result, step = Call._send, Call.result, Checkpoint._step

    def sending(call: Call[Any]) -> None:
        send(call)
        counter.happened("sent")

    def receiving(call: Call[Any]) -> Any:
        try:
            return result(call)
        finally:
            counter.happened("answer")

    @contextlib.contextmanager
    def stepping(checkpoint: Checkpoint, *, synced: bool = False) -> Iterator[None]:
        with step(checkpoint, synced=synced):
            yield
            counter.happened("write")
        counter.happened("written")

    Call._send = sending  # type: ignore[method-assign, assignment]
    Call.result = receiving  # type: ignore[method-assign, assignment]
    Checkpoint._step = stepping  # type: ignore[method-assign, assignment]
