"""What the chaos tests share: a small world, runs that may crash, and checks of exactly once."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from google.api_core.exceptions import Aborted
from google.cloud import datastore

from bulkup.core.clock import Clock
from bulkup.core.events import Event, Report
from bulkup.core.model import Counts, RunState
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.server_time import ServerTime
from bulkup.engine.options import Options
from bulkup.runs import prepare, resume, start
from bulkup.runs.context import RunContext
from bulkup.runs.target import TargetOptions
from bulkup.state import holder
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, run_folders
from bulkup.state.kinds import MARKER_KIND, RUN_KIND
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.record import Holder
from tests.chaos.proxy import Proxy, label
from tests.chaos.updaters import RENAMED
from tests.conftest import Server

UPDATERS = Path(__file__).parent / "updaters.py"

AMOUNT = 1000
"""The initial amount of each Thing."""

LONGEST_NAP_S = 0.02
"""Pauses between retries are shortened to this: enough for a broken connection to come back."""


def quick_clock(*, ahead_s: float = 0.0) -> Clock:
    """A clock whose sleeps return at once but count as time. Unix time is `ahead_s` ahead."""
    skipped = 0.0
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        nonlocal skipped
        short = min(seconds, LONGEST_NAP_S)
        time.sleep(short)
        with lock:
            skipped += seconds - short

    return Clock(
        monotonic=lambda: time.monotonic() + skipped,
        unix=lambda: time.time() + ahead_s,
        sleep=sleep,
        elapsed=lambda: Clock.elapsed() + skipped,
    )


@contextlib.contextmanager
def later(seconds: float) -> Iterator[None]:
    """What runs in this block runs that much later, by the clock of every server and machine."""
    now, elapsed = ServerTime.now, ServerTime.elapsed
    with (
        mock.patch.object(ServerTime, "now", lambda time: now(time) + seconds),
        mock.patch.object(ServerTime, "elapsed", lambda time: elapsed(time) + seconds),
    ):
        yield


class Crash(BaseException):
    """Ends a run as a crash of the process would, within a process that lives on."""


OnSend = Callable[[int, str], None]
"""Called with the number of a call and its label (see proxy.py), just before it is sent."""

_ENVIRONMENT = threading.Lock()
"""Of this process: one thread at a time points it at a proxy."""

NO_PROCESS = 2**22 + 1
"""A process id that Linux never assigns."""


@dataclass(frozen=True)
class _WatchedMethod:
    """A method of gRPC's; `sends` is told each request and may raise."""

    method: Any
    sends: Callable[[bytes], None]

    def future(self, payload: bytes, **options: Any) -> Any:
        self.sends(payload)
        return self.method.future(payload, **options)


def dead_holder() -> Holder:
    """The holder of a lease, as a process that has ended.

    So the next runner takes over at once, as if the lease had expired, whether the former runner
    has crashed or is still alive (two at once).
    """
    return replace(holder.this_process(), pid=NO_PROCESS, began="then")


@dataclass
class World:
    """One Datastore with `Thing` entities 1..size, and a run's state directory."""

    server: Server
    proxy: Proxy
    state_dir: Path
    size: int
    client: Any
    """Connected directly to the server: for the live users and the final checks."""
    live: Counter[int] = field(default_factory=Counter)
    """Increments of `m` that live users made, by entity id."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fill(self, **properties: Any) -> None:
        """Every Thing with n = m = 0; `properties` may be functions of the id."""
        for first in range(1, self.size + 1, 500):
            things = []
            for id_ in range(first, min(first + 500, self.size + 1)):
                thing = datastore.Entity(self.client.key("Thing", id_))
                thing.update(
                    {"n": 0, "m": 0, "amount": AMOUNT, "next": id_ % self.size + 1, "open": True}
                )
                for name, value in properties.items():
                    thing[name] = value(id_) if callable(value) else value
                things.append(thing)
            self.client.put_multi(things)

    # --- live users ---

    def touch(self, id_: int) -> None:
        """A live user increments `m` of one entity, in a transaction of its own."""
        while True:
            try:
                with self.client.transaction():
                    thing = self.client.get(self.client.key("Thing", id_))
                    if thing is None:
                        return
                    thing["m"] = thing["m"] + 1
                    self.client.put(thing)
            except Aborted:
                continue
            with self._lock:
                self.live[id_] += 1
            return

    @contextlib.contextmanager
    def live_writers(self, count: int, ids: Callable[[], int]) -> Iterator[None]:
        """Run `count` live users within this block. An error in one of them fails the test."""
        over = threading.Event()
        errors: list[Exception] = []

        def work() -> None:
            try:
                while not over.is_set():
                    self.touch(ids())
                    over.wait(0.01)  # the pause of a live user; nothing depends on it
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not errors

    # --- runs ---

    def run(self, updater: str, options: Options | None = None, **more: Any) -> Report:
        """Start a run in this process, through the proxy, or resume an unfinished one.

        `more`: `on_send`, `state_dir`, `listener`, `clock`, `keys` (in place of the query), and
        arguments of `RunContext` and `start`.
        """
        more.setdefault("clock", quick_clock())
        with ExitStack() as stack:
            context = self._context(options, more)
            prepared = prepare.prepare(
                f"{UPDATERS}:{updater}", {}, self._target(), context, keys=more.pop("keys", None)
            )
            prepared = self._entered(stack, prepared)
            self._watch(prepared.rpc, more.pop("on_send", None))
            return start.start(prepared, **more)

    def resume(self, options: Options | None = None, **more: Any) -> Report:
        """Resume the run of the state directory. See `run`."""
        more.setdefault("clock", quick_clock())
        on_send = more.pop("on_send", None)
        context = self._context(options, more)
        with ExitStack() as stack:
            checkpoint = stack.enter_context(resume.open_unfinished(None, context))
            prepared = resume.prepare_resume(checkpoint, self._target(), {}, context)
            prepared = self._entered(stack, prepared)
            self._watch(prepared.rpc, on_send)
            return resume.resume(prepared, checkpoint)

    def finishes(self, updater: str, options: Options, *, lose: bool) -> None:
        """Check that the next runner finishes the run, and each entity once. `lose`: with the state
        directory lost."""
        if lose:
            shutil.rmtree(self.state_dir)
            last = self.run(updater, options)
        else:
            last = self.resume(options)
        assert last.success
        assert last.counts.handled == self.size
        assert self.violations() == []

    def _context(self, options: Options | None, more: dict[str, Any]) -> RunContext:
        return RunContext(
            options or Options(),
            more.pop("state_dir", self.state_dir),
            more.pop("listener", _ignore),
            more.pop("wait_s", 0.0),
            more.pop("clock"),
            until_clean=more.pop("until_clean", False),
        )

    def _entered(self, stack: ExitStack, prepared: AbstractContextManager[Any]) -> Any:
        """Prepare a run while the environment points at the proxy. Not longer, because runners in
        several threads must not unset it for each other."""
        with _ENVIRONMENT:
            os.environ["DATASTORE_EMULATOR_HOST"] = self.proxy.address
            try:
                return stack.enter_context(prepared)
            finally:
                del os.environ["DATASTORE_EMULATOR_HOST"]

    def _target(self) -> TargetOptions:
        return TargetOptions(project=self.server.project)

    @staticmethod
    def _watch(rpc: Rpc, on_send: OnSend | None) -> None:
        if on_send is None:
            return
        count = 0

        def sends(name: str, payload: bytes) -> None:
            nonlocal count
            count += 1
            on_send(count, label(name, payload))

        rpc.methods = {
            name: _WatchedMethod(method, partial(sends, name))
            for name, method in rpc.methods.items()
        }

    def clear_old_markers(self) -> None:
        """Run another command on this target after the time in which a late copy could arrive."""
        with later(2 * LATE_COPY_S):
            self.run("Nothing")

    # --- the run's files ---

    def has_run(self) -> bool:
        return bool(run_folders(self.state_dir))

    @property
    def folder(self) -> Path:
        return run_folders(self.state_dir)[-1]

    def checkpoint_copy(self, to: Path) -> Path:
        """Copy the checkpoint file and its log, as a power loss at this moment may leave them."""
        to.mkdir(parents=True, exist_ok=True)
        for suffix in ("", "-wal"):
            source = self.folder / (CHECKPOINT_NAME + suffix)
            if source.exists():
                shutil.copy2(source, to / source.name)
        return to

    def stored_counts(self) -> Counts:
        with contextlib.closing(Checkpoint.open(self.folder)) as checkpoint:
            return checkpoint.counts()

    @contextlib.contextmanager
    def copying_what_is_synced(self, to: Path) -> Iterator[None]:
        """Meanwhile `to` holds the checkpoint as of its last synced step, which a power loss cannot
        undo."""
        step = Checkpoint._step

        @contextlib.contextmanager
        def copying(checkpoint: Checkpoint, *, synced: bool = False) -> Iterator[None]:
            with step(checkpoint, synced=synced):
                yield
            if synced and self.has_run():  # a checkpoint that is being created has no name yet
                shutil.rmtree(to, ignore_errors=True)
                self.checkpoint_copy(to)

        Checkpoint._step = copying  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Checkpoint._step = step  # type: ignore[method-assign]

    def restore_checkpoint(self, copy: Path) -> None:
        folder = self.folder
        for suffix in ("", "-wal", "-shm"):
            (folder / (CHECKPOINT_NAME + suffix)).unlink(missing_ok=True)
        for file in copy.iterdir():
            shutil.copy2(file, folder / file.name)

    def record_states(self) -> list[RunState]:
        """The states of the run records in Datastore, oldest run first."""
        records = self.client.query(kind=RUN_KIND).fetch()
        return [RunState(r["state"]) for r in sorted(records, key=lambda r: r.key.name)]

    def markers(self) -> list[str]:
        query = self.client.query(kind=MARKER_KIND)
        query.keys_only()
        return [entity.key.name for entity in query.fetch()]

    # --- the promise ---

    def things(self) -> dict[int, Any]:
        return {thing.key.id: thing for thing in self.client.query(kind="Thing").fetch()}

    def groups(self) -> dict[int, int]:
        """The counters of Neighbours by id."""
        return {group.key.id: group["n"] for group in self.client.query(kind="Group").fetch()}

    def violations(self, *, incremented: bool = True, children: bool = False) -> list[str]:
        """List every way in which the data breaks the promise; empty: it was kept."""
        found = []
        things = self.things()
        if len(things) != self.size:
            found.append(f"{len(things)} things of {self.size}")
        for id_, thing in things.items():
            if incremented and thing["n"] != 1:
                found.append(f"thing {id_} has n = {thing['n']}")
            if thing["m"] != self.live[id_]:
                found.append(f"thing {id_} has m = {thing['m']}, not {self.live[id_]}")
        if (total := sum(thing["amount"] for thing in things.values())) != AMOUNT * len(things):
            found.append(f"the amounts sum up to {total}, not {AMOUNT * len(things)}")
        if children:
            query = self.client.query(kind="Child")
            query.keys_only()
            count = Counter(child.key.parent.id for child in query.fetch())
            for id_ in things.keys() | count.keys():
                if count[id_] != 1:
                    found.append(f"thing {id_} has {count[id_]} children")
        return found

    def made_violations(self, updater: str) -> list[str]:
        """The same for the updaters that make things (`MAKERS`)."""
        things = list(self.client.query(kind="Thing").fetch())
        copies = [thing for thing in things if "of" in thing]
        others = [thing for thing in things if "of" not in thing]
        ids = range(1, self.size + 1)
        found = [f"{t.key.id} has n = {t['n']}" for t in things if t["n"] != 1]
        for thing in others:
            live = self.live[thing.key.id % RENAMED]
            if thing["m"] != live:
                found.append(f"{thing.key.id} has m = {thing['m']}, not {live}")
        moved = RENAMED if updater == "Rename" else 0
        if sorted(t.key.id for t in others) != [id_ + moved for id_ in ids]:
            found.append(f"the things are {sorted(t.key.id for t in others)}")
        if sorted(t["of"] for t in copies) != ([] if updater == "Rename" else [*ids]):
            found.append(f"there are copies of {sorted(t['of'] for t in copies)}")
        return found


def _ignore(event: Event) -> None:
    pass


def checkpoint_state(world: World) -> RunState:
    with contextlib.closing(Checkpoint.open(world.folder)) as checkpoint:
        return checkpoint.status().state
