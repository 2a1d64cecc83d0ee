"""Kill a run at each of its commits, resume it, and compare how it ends."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from bulkup.core.errors import BulkupError
from bulkup.datastore.keys import key_text
from bulkup.engine.batches import MAX_BATCH_SIZE
from bulkup.report.change_lines import property_line
from bulkup.report.text import clean
from bulkup.runs.prepare import load_updater
from bulkup.state.record import LEASE_S
from bulkup.testing.entities import Entities
from bulkup.testing.memory import Memory
from bulkup.testing.new_ids import with_numbered_ids
from bulkup.testing.own_frames import without_own_frames
from bulkup.testing.results import Diff, RunFailedError, RunResult, diffs_of, failed_entity
from bulkup.testing.running import OPTIONS, Given, Heard, as_typed, execute, run_on
from bulkup.testing.store import Store

_BATCHES = 5
"""The approximate number of commits in a run of many entities. Each commit costs four runs."""
_SHOWN = 5

_LOST = (
    "A process that dies loses the attributes of self, the variables of modules, and whatever it "
    "has kept in memory or in local files, and `finish` may be called twice. Let each call depend "
    "on its entity, the parameters and what self.client reads alone."
)
_RANDOM = (
    "So the updater depends on the time, on random numbers or on something outside; take that as "
    "a parameter, which a test can set and a resumed run keeps."
)


@dataclass(frozen=True)
class CrashResult:
    """What `crash_test` returns: each run that was killed and resumed has ended like one that was
    not interrupted."""

    updater: str
    crashes: int
    """How often a run was killed."""
    run: RunResult
    """The run that was not interrupted."""
    idempotent: bool
    """A second run changes nothing."""
    second_run: list[str]
    """What a second run changes, or why it fails: a string for each entity."""

    def __repr__(self) -> str:
        """Says why it is not idempotent, for `assert crash_test(...).idempotent`."""
        if self.idempotent:
            return f"<CrashResult: {self.updater} survived {self.crashes} crashes; idempotent>"
        first, more = self.second_run[0], len(self.second_run) - 1
        first = "; ".join(line.strip() for line in first.splitlines())
        return f"<CrashResult: {self.updater} is not idempotent, in a second run {first}" + (
            f"; and {more} more>" if more else ">"
        )

    def assert_idempotent(self) -> None:
        """Raises AssertionError with what a second run changes."""
        __tracebackhide__ = True
        if not self.idempotent:
            raise AssertionError(
                f"{self.updater} is not idempotent; in a second run:\n{_shown(self.second_run)}"
            )


@without_own_frames
def crash_test(updater: Any, entities: Entities, /, **params: Any) -> CrashResult:
    """Kill a run of an updater before and after each of its commits, and resume it each time.

    Arguments as for `run_updater`. At a crash, nothing more is sent or saved; the run is resumed
    from what was on disk, by a new instance of the updater, with the variables of its module and
    its classes as they were at the beginning. However many entities there are, they are written in
    about five commits.

    Raises AssertionError when a resumed run ends with other entities than one that was not
    interrupted, when an entity fails, when nothing is changed, and when an updater that says
    `idempotent = True` is not.
    """
    __tracebackhide__ = True
    return _CrashTest(updater, params, Given(updater, params, entities)).result()


class _Killed(BaseException):
    """Ends a run as a crash of its process would, within a process that lives on."""


class _Process:
    """A process that sends commits, and may die right before or right after one of them."""

    def __init__(self, state_dir: Path, dies_at: int = 0, *, after: bool = False) -> None:
        self.state_dir = state_dir
        self.left = state_dir.with_name(f"{state_dir.name}-left")
        """What was on disk when it died."""
        self.commits = 0
        self.has_died = False
        self._dies_at, self._after = dies_at, after

    def watch(self, method: Any) -> Any:
        return _Commits(self, method)

    def send(self, method: Any, request: bytes, options: Any) -> Any:
        if self.has_died:
            raise _Killed
        self.commits += 1
        if self.commits != self._dies_at:
            return method.future(request, **options)
        if self._after:
            method.future(request, **options).exception()  # waits for the answer
        self.has_died = True
        shutil.copytree(self.state_dir, self.left, ignore=shutil.ignore_patterns("*-shm"))
        raise _Killed


@dataclass(frozen=True)
class _Commits:
    """gRPC's Commit method, as a process uses it."""

    process: _Process
    method: Any

    def future(self, request: bytes, **options: Any) -> Any:
        return self.process.send(self.method, request, options)


class _CrashTest:
    def __init__(self, updater: Any, params: dict[str, Any], given: Given) -> None:
        self._updater, self._params, self._given = updater, params, given
        self._options = OPTIONS
        self._memory: Memory
        self._before: list[Any] = []
        self._end: list[Any] = []
        """The contents after a run that was not interrupted."""

    def result(self) -> CrashResult:
        __tracebackhide__ = True
        with self._given.store() as store:
            loaded = load_updater(as_typed(self._updater), self._params)
            self._memory = Memory(loaded.source.definition)
            claims_idempotent = loaded.create().idempotent is True
            self._before = store.contents()
            size = ceil(len(self._before) / _BATCHES)
            self._options = replace(OPTIONS, batch_size=min(max(1, size), MAX_BATCH_SIZE))
            run, commits = self._whole_run(store)
            self._end = self._numbered(store)
            second = self._second_run(store)
        if not run.diffs:
            raise AssertionError(
                f"{run.updater} changes none of these entities, so a crash could lose nothing; "
                "give entities that it changes"
            )
        if second and claims_idempotent:
            raise AssertionError(
                f"{run.updater} says idempotent = True, but in a second run:\n{_shown(second)}"
            )
        with self._given.store() as store:
            self._whole_run(store)
            self._compare(store, f"{run.updater} does not end the same each time", _RANDOM)
        crashes = 0
        for at in range(1, commits + 1):
            for after in (False, True):
                moment = f"{'after' if after else 'before'} commit {at} of {commits}"
                head = f"{run.updater}, killed right {moment} and resumed, does not end like a run "
                crashes += self._killed(at, after=after, head=f"{head}that was not interrupted")
        return CrashResult(run.updater, crashes, run, not second, second)

    def _whole_run(self, store: Store) -> tuple[RunResult, int]:
        """Run without interruption; return the number of commits, too. Raises AssertionError."""
        __tracebackhide__ = True
        self._memory.forget()
        process = _Process(store.folder / "whole")
        run = run_on(store, self._updater, self._params, options=self._options, watch=process.watch)
        if run.failed:
            raise AssertionError(f"a crash test needs entities that do not fail: {run.summary()}")
        return run, process.commits

    def _second_run(self, store: Store) -> list[str]:
        """What a second run changes, or why it fails."""
        self._memory.forget()
        before = store.contents()
        try:
            run = run_on(store, self._updater, self._params, again=True)
        except (RunFailedError, BulkupError) as error:
            return [clean(str(error))]
        diffs = diffs_of(before, store.contents())
        return [*map(str, run.failed), *map(str, diffs)]

    def _killed(self, at: int, *, after: bool, head: str) -> bool:
        """Kill a run at a commit, and resume it. Returns whether it died. Raises AssertionError."""
        __tracebackhide__ = True
        with self._given.store() as store:
            process = _Process(store.folder / "killed", at, after=after)
            heard = Heard()

            def live(process: _Process) -> None:
                self._memory.forget()
                execute(
                    store, self._updater, self._params, process.state_dir, heard,
                    options=self._options, watch=process.watch,
                )  # fmt: skip

            with suppress(_Killed):
                live(process)
            if process.has_died:
                # By then, the dead process's lease has expired.
                store.later(2 * LEASE_S)
                try:
                    live(_Process(process.left))
                except (RunFailedError, BulkupError) as error:
                    raise AssertionError(f"{head}: {error}\n{_LOST}") from error
            for failure in heard.failures[:1]:
                failed = failed_entity(failure, self._before, store.client)
                raise AssertionError(f"{head}: {failed}\n{failure.traceback}\n{_LOST}")
            self._compare(store, head, _LOST)
            return process.has_died

    def _numbered(self, store: Store) -> list[Any]:
        return with_numbered_ids(store.contents(), self._before)

    def _compare(self, store: Store, head: str, advice: str) -> None:
        __tracebackhide__ = True
        diffs = diffs_of(self._end, self._numbered(store))
        if diffs:
            raise AssertionError(f"{head}:\n{_shown([*map(_difference, diffs)])}\n{advice}")


def _difference(diff: Diff) -> str:
    """What differs from the end of a run that was not interrupted, property by property."""
    key = clean(key_text(diff.key))
    if diff.before is None or diff.after is None:
        return f"{key} {'is there, too' if diff.before is None else 'is missing'}"
    lines = (property_line(change, "(not there)", "(not there)") for change in diff.changes)
    return "\n".join([key, *(line.plain for line in lines)])


def _shown(parts: Sequence[str]) -> str:
    more = [f"and {len(parts) - _SHOWN} more"] if len(parts) > _SHOWN else []
    return "\n".join([*parts[:_SHOWN], *more])
