"""The crash pass: the same work from the beginning, repeatedly killed and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bulkup.core.model import Counts, RunState
from bulkup.core.rehearsal import CrashPass, Effect, Kill, RehearsedRun
from bulkup.local.file_diff import settle
from bulkup.local.snapshot import remove_copy
from bulkup.rehearsal.killing import KillingServer, kills_of
from bulkup.rehearsal.process import PassProcess
from bulkup.rehearsal.same_end import Varying, end_difference, varying_in
from bulkup.rehearsal.work import Ended, Job, Message, Pending

_COUNTED = (
    "handled", "written", "deleted", "unchanged", "left_alone", "vanished", "failed",
    "other_written", "other_deleted",
)  # fmt: skip


@dataclass(frozen=True)
class Crashing:
    base: Path
    """The data that each pass begins with."""
    whole: Path
    """The data that the uninterrupted pass left."""
    runs: tuple[RehearsedRun, ...]
    """The runs of the uninterrupted pass."""
    copy: Callable[[Path, str], Path]
    run: Callable[[Path], Ended | Pending]
    """Do the same work on a copy, without interruption."""
    check: Callable[[], None]
    on_process: Callable[[int], None]
    """Called when a process begins, with its number; the first is 1."""

    def crash(
        self,
        path: Path,
        job: Job,
        kills: int,
        log: Path,
        on_message: Callable[[Message], None],
    ) -> CrashPass | None:
        """Do the work on the copy `path`, and remove it. None: there was no commit to kill at."""
        killed, ended = self._lives(path, job, kills, log, on_message)
        settle(path)
        has_failed = ended.refusal is not None or not _have_finished(ended.runs)
        if not killed and not has_failed:
            remove_copy(path)
            return None
        if ended.refusal is not None:
            remove_copy(path)
            return CrashPass(killed, ended.runs, Effect(), unlike=ended.refusal.message)
        difference, varying = end_difference(self.base, self.whole, path, self.check), Varying()
        if not difference.is_none:
            varying = self._varying()
            difference = end_difference(self.base, self.whole, path, self.check, varying)
        remove_copy(path)
        return CrashPass(
            killed,
            ended.runs,
            difference.effect,
            tuple(_other_counts(_sum(self.runs), _sum(ended.runs))),
            varying.named(),
            _unlike(self.runs, ended.runs),
            difference.not_compared,
        )

    def _lives(
        self,
        path: Path,
        job: Job,
        kills: int,
        log: Path,
        on_message: Callable[[Message], None],
    ) -> tuple[tuple[Kill, ...], Ended]:
        moments = kills_of(_sum(self.runs).writes, kills)
        killed: list[Kill] = []
        with KillingServer(path) as server:
            job = replace(job, address=server.host)
            for number, at in enumerate((*moments, None), start=1):
                self.on_process(number)
                with PassProcess(job, log) as process:
                    server.arm(at, process.kill)
                    ended = process.result(on_message, self.check)
                if ended is not None:
                    break
                assert at is not None
                killed.append(Kill(at.after, server.writes()))
        assert isinstance(ended, Ended)
        return tuple(killed), ended

    def _varying(self) -> Varying:
        """What differs even without a crash, between two uninterrupted passes."""
        control = self.copy(self.base, "control")
        ended = self.run(control)
        settle(control)
        try:
            if not isinstance(ended, Ended) or ended.refusal is not None:
                return Varying()
            return varying_in(end_difference(self.base, self.whole, control, self.check))
        finally:
            remove_copy(control)


def _have_finished(runs: tuple[RehearsedRun, ...]) -> bool:
    return all(run.state is RunState.FINISHED for run in runs)


def _sum(runs: tuple[RehearsedRun, ...]) -> Counts:
    total = Counts()
    for run in runs:
        total = total + run.counts
    return total


def _other_counts(whole: Counts, crashed: Counts) -> Iterator[str]:
    one, other = whole.named(), crashed.named()
    for name in _COUNTED:
        if one[name] != other[name]:
            yield f"{name}: {other[name]:,}, not {one[name]:,}"


def _unlike(whole: tuple[RehearsedRun, ...], crashed: tuple[RehearsedRun, ...]) -> str:
    if not crashed:
        return "no run has ended"
    one, other = whole[-1], crashed[-1]
    if one.state is not other.state:
        return other.reason or f"the run is {other.state}"
    return ""
