"""Run an updater in a test: the real engine, on an embedded Datastore in this process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.authoring.source_files import suggest
from bulkup.core.errors import BulkupError, NotFoundError, UsageError
from bulkup.core.events import EntityFailed, Event, Logged, Report, RunStarted
from bulkup.core.model import Failure, RunState
from bulkup.core.visible import visible
from bulkup.datastore.containment import contained
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import CommitRequest
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import Target
from bulkup.engine.options import Options
from bulkup.local.encoding import Partition
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import load_updater, prepare_on
from bulkup.runs.start import start
from bulkup.testing.entities import Entities, to_entity
from bulkup.testing.handling import kind_of, offline_client
from bulkup.testing.own_frames import without_own_frames
from bulkup.testing.results import RunFailedError, RunResult, diffs_of, failed_entity
from bulkup.testing.store import Store, fresh_store

Watch = Callable[[Any], Any]
"""Takes the Commit method of the connection, and returns what is used in its place."""


@without_own_frames
def run_updater(updater: Any, entities: Entities = (), /, **params: Any) -> RunResult:
    """Run an updater over these entities, and return what it has done.

    `updater` is a class, a decorated function or a file, as for `bulkup.run`. `entities` are
    `Entity` objects, dictionaries such as `{"__key__": ["Person", 1], "first": "Ada"}` (without
    `__key__`: of the updater's kind, with the ids 1, 2, 3, ...), or the path of a file of JSON
    lines as `bulkup local dump` writes them. `params` are its parameters. Entities that fail do not
    stop the run: they are in `failed`.

    Raises RunFailedError, an AssertionError, when the run does not finish: no change was written,
    or a check does not hold. Raises BulkupError when it cannot start.
    """
    __tracebackhide__ = True
    with Given(updater, params, entities).store() as store:
        return run_on(store, updater, params)


class Given:
    """The entities that a test gives, for any number of stores."""

    def __init__(self, updater: Any, params: dict[str, Any], entities: Entities) -> None:
        self._updater, self._params = updater, params
        self._path: str | None = None
        self._entities: list[Any] = []
        if isinstance(entities, (str, os.PathLike)):
            self._path = os.fspath(entities)
        elif isinstance(entities, Mapping):
            raise TypeError("give a list of entities, also for one")
        else:
            self._entities = list(entities)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """A new store with these entities. Raises TypeError, ValueError, OSError; BulkupError when
        the updater cannot be loaded."""
        keys = (one.key for one in self._entities if isinstance(one, Entity) and one.key)
        with empty_store(next(keys, None)) as store:
            self.fill(store)
            yield store

    def fill(self, store: Store) -> None:
        if self._path is not None:
            try:
                store.load(self._path, self._kind(store))
            except OSError as error:
                raise _unreadable(self._path, error) from None
            return
        client = store.client
        store.put(
            [
                to_entity(one, client, lambda: self._kind(store), number)
                for number, one in enumerate(self._entities, start=1)
            ]
        )

    def _kind(self, store: Store) -> str:
        """The kind for entities without a key: the one of the updater's query."""
        ready = load_updater(as_typed(self._updater), self._params).create()
        ready.client = store.client
        return kind_of(ready)


def _unreadable(path: str, error: OSError) -> BulkupError:
    """The error for a file of entities that cannot be read."""
    if not isinstance(error, FileNotFoundError):
        return UsageError(f"cannot read the entities in {visible(path)} ({error.strerror})")
    meant = ""
    with suppress(OSError):
        folder, name = os.path.split(path)
        meant = suggest(name, os.listdir(folder or os.curdir))
    beside = f"Path(__file__).with_name({os.path.basename(path)!r})"
    where = f"; paths begin in {visible(os.getcwd())}, and {beside} is the file beside a test"
    return NotFoundError(f"there is no file {visible(path)}{meant or where}")


def empty_store(key: Key | None = None) -> AbstractContextManager[Store]:
    """A new store, in the project, database and namespace of a key or of `offline_client`."""
    key = key or offline_client().key("Kind")
    return fresh_store(Partition(key.project, key.database or "", key.namespace or ""))


@dataclass
class Heard:
    """What the events of a run report."""

    updater: str = ""
    """The name of the first updater, not of its successors."""
    failures: list[Failure] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    put: set[bytes] = field(default_factory=set)
    """The keys of the entities that its commits put, changed or not."""

    def watch(self, method: Any) -> Any:
        return _HeardCommits(self, method)

    def __call__(self, event: Event) -> None:
        if isinstance(event, EntityFailed):
            self.failures.append(event.failure)
        elif isinstance(event, RunStarted):
            self.updater = self.updater or event.updater
        elif isinstance(event, Logged):
            self.logged.append(str(event.line))


@dataclass(frozen=True)
class _HeardCommits:
    """gRPC's Commit method, as a run uses it."""

    heard: Heard
    method: Any

    def future(self, request: bytes, **options: Any) -> Any:
        for mutation in CommitRequest.FromString(request).mutations:
            operation = mutation.WhichOneof("operation")
            if operation != "delete":
                self.heard.put.add(key_bytes(getattr(mutation, operation).key))
        return self.method.future(request, **options)


@dataclass(frozen=True)
class _WatchedContext(RunContext):
    """Watches the commits of a run and of its successors."""

    watches: Sequence[Watch] = ()

    def connect(self, target: Target) -> Rpc:
        rpc = super().connect(target)
        commit = rpc.methods["Commit"]
        for watch in self.watches:
            commit = watch(commit)
        rpc.methods = {**rpc.methods, "Commit": commit}
        return rpc


def run_on(store: Store, updater: Any, params: dict[str, Any], **more: Any) -> RunResult:
    """Run an updater over what a store holds, in a state directory of its own. `more`:
    arguments for `execute`. Raises what `run_updater` raises."""
    __tracebackhide__ = True
    before = store.contents()
    heard = Heard()
    with tempfile.TemporaryDirectory(prefix="state-", dir=store.folder) as state_dir:
        report = execute(store, updater, params, Path(state_dir), heard, **more)
    after = store.contents()
    return RunResult(
        heard.updater,
        diffs_of(before, after, rewritten=heard.put),
        heard.logged,
        [failed_entity(failure, before, store.client) for failure in heard.failures],
        report,
        tuple(after),
    )


OPTIONS = Options(shards=1, in_flight=1, max_failures=-1, no_undo=True, max_hold_s=30.0)
"""A test must not wait forever: if its updater is not `healthy`, it ends with the reason."""


def execute(
    store: Store,
    updater: Any,
    params: dict[str, Any],
    state_dir: Path,
    heard: Heard,
    *,
    options: Options = OPTIONS,
    watch: Watch | None = None,
    again: bool = False,
) -> Report:
    """Start a run, or resume the unfinished one. `again`: start one even if one has finished.

    Raises RunFailedError, BulkupError.
    """
    __tracebackhide__ = True
    watches = [heard.watch, *([watch] if watch is not None else [])]
    context = _WatchedContext(options, state_dir, heard, typed=frozenset(), watches=watches)
    with (
        contained(context.containment(store.target)),
        prepare_on(store.target, load_updater(as_typed(updater), params), context) as prepared,
    ):
        report = start(prepared, fresh=again)
    if report.state is RunState.STOPPED:
        raise KeyboardInterrupt  # nothing else stops a run that has no limit
    if report.state is not RunState.FINISHED:
        details = "".join(f"\n{failure.traceback}" for failure in report.failures[:1])
        raise RunFailedError(f"{report.updater} did not finish: {report.reason}{details}")
    return report


def as_typed(updater: Any) -> Any:
    return os.fspath(updater) if isinstance(updater, os.PathLike) else updater
