"""One call of a handler, without a Datastore and without a run.

writes = handle(AddFullName, {"first": "Ada", "last": "Lovelace"}, sep="-")
assert writes.puts[0]["full_name"] == "Ada-Lovelace"
assert query(AddFullName).kind == "Person"
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from bulkup.authoring import wrong_owner
from bulkup.authoring.call_threads import end_call
from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.loader import UpdaterSource, load, make, with_models
from bulkup.authoring.parameters import convert, parameters_of
from bulkup.authoring.running import begin_task, writing_to
from bulkup.authoring.updater import Updater
from bulkup.authoring.writes import WriteSink
from bulkup.authoring.wrong_result import method_result
from bulkup.testing.own_frames import without_own_frames

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Key, Query

AnyUpdater = Updater[Any] | type[Updater[Any]] | Callable[..., Any] | str | os.PathLike[str]


@dataclass(frozen=True)
class Writes:
    """What an updater asked for in one call, in order.

    A run may write less: putting an unchanged entity costs no write.
    """

    puts: tuple[Entity, ...] = ()
    """Copies, as the entities were when they were put."""
    deletes: tuple[Key, ...] = ()
    logs: tuple[str, ...] = ()
    failures: Mapping[Key, BaseException | str] = field(default_factory=dict)
    """What `fail` was called with, in `handle_batch`. A run drops the writes of these entities."""


@without_own_frames
def handle(
    updater: AnyUpdater,
    entity: Entity | Mapping[str, Any] | Sequence[Entity | Mapping[str, Any]],
    /,
    **params: Any,
) -> Writes:
    """Let an updater handle one entity, and return its writes. For an updater of batches, `entity`
    may also be a list.

    `updater` is a class, a decorated function, an instance that already has its parameters, or a
    file as after `bulkup run`. `entity` may be a dictionary: `{"__key__": ["Person", 1], "first":
    "Ada"}`; without `__key__` it is the first one of the updater's kind. `params` are values, or
    strings as after `-p`. `self.client` has no credentials unless an instance brings its own
    client: that is enough for keys and queries, and for an emulator named by
    DATASTORE_EMULATOR_HOST.
    Raises what the handler raises, ParameterError and UsageError.
    """
    from bulkup.testing.entities import to_entity

    ready = _ready(updater, params)
    takes_batches = ready._form == "handle_batch"
    given = list(entity) if takes_batches and isinstance(entity, (list, tuple)) else [entity]
    entities = [
        to_entity(one, ready.client, lambda: kind_of(ready), number)
        for number, one in enumerate(given, 1)
    ]
    sink = _BatchRecorder(entities) if takes_batches else _Recorder()
    _handle_into(ready, entities, sink)
    return Writes(tuple(sink.puts), tuple(sink.deletes), tuple(sink.logs), sink.failures)


def _handle_into(updater: Updater, entities: list[Entity], sink: WriteSink) -> None:
    """Record the writes of a handler call in `sink`. Raises what the handler raises, and TypeError
    if the handler returns something."""
    from bulkup.datastore.stray_attributes import check_no_stray

    called = updater._form
    sink.own = entities[0] if called == "handle_entity" else object()
    with writing_to(sink, updater):
        try:
            result: Any
            if called == "handle_batch":
                result = updater.handle_batch(entities)  # type: ignore[func-returns-value]
            elif updater._is_async:
                result = _awaited(updater, entities[0], sink)
            else:
                result = updater.handle_entity(entities[0])
        finally:
            end_call(sink)
    if result is not None:
        raise method_result(updater, result, called)
    for entity in entities:
        check_no_stray(entity)


def _awaited(updater: Updater, entity: Entity, sink: WriteSink) -> Any:
    """What an async handler returns. It runs on another thread, since the test's own thread may
    already run an event loop."""

    async def call() -> Any:
        begin_task(sink, updater)
        if isinstance(updater, FunctionUpdater):
            return await updater.handle_async(entity)
        returned = updater.handle_entity(entity)
        return await returned if isawaitable(returned) else returned

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, call()).result()


@without_own_frames
def query(updater: AnyUpdater, /, **params: Any) -> Query:
    """Return the query that an updater would run. Arguments as for `handle`."""
    return _ready(updater, params).get_query()


def kind_of(updater: Updater) -> str:
    """The kind that a ready updater's query names; empty if it names none."""
    if isinstance(updater, FunctionUpdater) and isinstance(updater.spec.kind, str):
        return updater.spec.kind
    return str(getattr(updater.get_query(), "kind", None) or "")


def project_of_tests() -> str:
    """The project of the clients and stores of tests."""
    return os.environ.get("DATASTORE_PROJECT_ID") or "test"


def offline_client() -> Client:
    """A `google.cloud.datastore.Client` that needs no credentials, for keys and queries."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.datastore import Client

    # With an emulator, the official client needs no credentials and refuses any.
    credentials = None if "DATASTORE_EMULATOR_HOST" in os.environ else AnonymousCredentials()
    client: Client = Client(project=project_of_tests(), credentials=credentials)
    return client


_STAND_IN_ID = 9_000_000_000_000_000
"""New entities get ids above this one when they are put."""


class _Recorder(WriteSink):
    def __init__(self) -> None:
        self.puts: list[Entity] = []
        self.deletes: list[Key] = []
        self.logs: list[str] = []
        self.failures: dict[Key, BaseException | str] = {}

    def put(self, entity: Entity) -> None:
        from bulkup.datastore.stray_attributes import check_no_stray

        check_no_stray(entity)
        self.puts.append(copy.deepcopy(entity))
        if entity.key.is_partial:  # a run allocates an id when the key is read
            entity.key = entity.key.completed_key(_STAND_IN_ID + len(self.puts))

    def delete(self, key: Key) -> None:
        self.deletes.append(key)

    def log(self, line: str) -> None:
        self.logs.append(line)


class _BatchRecorder(_Recorder):
    """Refuses the writes that a run refuses."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        super().__init__()
        self._keys = {entity.key for entity in entities}
        self._owners: dict[Key, Key] = {}

    def put(self, entity: Entity) -> None:
        self._check_own(entity.key, "put")
        super().put(entity)

    def delete(self, key: Key) -> None:
        self._check_own(key, "delete")
        super().delete(key)

    def _check_own(self, key: Key, does: str) -> None:
        if key not in self._keys:
            raise wrong_owner.nobodys(str(key), does)

    def owned_by(self, owner: Any) -> WriteSink:
        key = getattr(owner, "key", owner)
        if key not in self._keys:
            raise wrong_owner.no_owner(str(key))
        return _Owned(self, key)

    def claim(self, key: Key, owner: Key) -> None:
        if key.is_partial or key == owner:
            return
        if key in self._keys:
            raise wrong_owner.own(str(key), str(owner))
        first = self._owners.setdefault(key, owner)
        if first != owner:
            raise wrong_owner.several(str(key), str(first), str(owner))

    def fail(self, entity: Any, error: BaseException | str) -> None:
        key = getattr(entity, "key", entity)
        if key not in self._keys:
            raise wrong_owner.fails_nobody(str(key))
        if not isinstance(error, BaseException | str):
            raise wrong_owner.no_error(error)
        self.failures[key] = error


class _Owned(WriteSink):
    """Records what is written together with one entity of a batch."""

    def __init__(self, recorder: _BatchRecorder, owner: Key) -> None:
        self._recorder = recorder
        self._owner = owner

    def put(self, entity: Entity) -> None:
        self._recorder.claim(entity.key, self._owner)
        _Recorder.put(self._recorder, entity)

    def delete(self, key: Key) -> None:
        self._recorder.claim(key, self._owner)
        _Recorder.delete(self._recorder, key)

    def log(self, line: str) -> None:
        self._recorder.log(line)


def _ready(updater: AnyUpdater, params: dict[str, Any]) -> Updater[Any]:
    if isinstance(updater, Updater):
        if params:
            raise TypeError("an instance has its parameters already; set them as attributes")
        ready = with_models(updater, type(updater).__name__)
    elif isinstance(updater, (str, os.PathLike)):
        source = load(os.fspath(updater))
        ready = make(source, convert(source, params))
    else:
        name = getattr(updater, "__name__", "updater")
        source = UpdaterSource(name, "", updater, "", "", "", parameters_of(updater))
        ready = make(source, convert(source, params))
    if not hasattr(ready, "client"):
        ready.client = offline_client()
    return ready
