"""For unit tests of your own updaters, without a Datastore and without a run.

from bulkup.testing import handle, query

def test_full_name():
    writes = handle(AddFullName, entity, sep="-")
    assert writes.puts[0]["full_name"] == "Ada-Lovelace"

def test_query():
    assert query(AddFullName).kind == "Person"
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulkup.authoring.loader import UpdaterSource, make, with_models
from bulkup.authoring.parameters import convert, parameters_of
from bulkup.authoring.updater import Updater, handle_into
from bulkup.authoring.writes import WriteSink

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Key, Query

__all__ = ["Writes", "handle", "offline_client", "query"]

AnyUpdater = Updater[Any] | type[Updater[Any]] | Callable[..., Any]


@dataclass(frozen=True)
class Writes:
    """What an updater asked for while it handled one entity, in order.

    A run may write less: putting an unchanged entity costs no write.
    """

    puts: tuple[Entity, ...] = ()
    """Copies, as the entities were when they were put."""
    deletes: tuple[Key, ...] = ()
    logs: tuple[str, ...] = ()


def handle(updater: AnyUpdater, entity: Entity, /, **params: Any) -> Writes:
    """Let an updater handle one entity, and return its writes.

    `updater` is a class, a decorated function, or an instance that already has its parameters.
    `params` are values, or strings as after `-p`. `self.client` has no credentials unless an
    instance brings its own client: that is enough for keys and queries, and for an emulator named
    by DATASTORE_EMULATOR_HOST.
    Raises what the handler raises, ParameterError and UsageError.
    """
    ready = _ready(updater, params)
    sink = _Recorder()
    handle_into(ready, entity, sink)
    return Writes(tuple(sink.puts), tuple(sink.deletes), tuple(sink.logs))


def query(updater: AnyUpdater, /, **params: Any) -> Query:
    """Return the query that an updater would run. Arguments as for `handle`."""
    return _ready(updater, params).get_query()


def offline_client() -> Client:
    """A `google.cloud.datastore.Client` that needs no credentials, for keys and queries."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.datastore import Client

    project = os.environ.get("DATASTORE_PROJECT_ID") or "test"
    client: Client = Client(project=project, credentials=AnonymousCredentials())
    return client


_STAND_IN_ID = 9_000_000_000_000_000
"""New entities have ids from here, after they were put."""


class _Recorder(WriteSink):
    def __init__(self) -> None:
        self.puts: list[Entity] = []
        self.deletes: list[Key] = []
        self.logs: list[str] = []

    def put(self, entity: Entity) -> None:
        self.puts.append(copy.deepcopy(entity))
        if entity.key.is_partial:  # a run allocates an id as soon as somebody looks at it
            entity.key = entity.key.completed_key(_STAND_IN_ID + len(self.puts))

    def delete(self, key: Key) -> None:
        self.deletes.append(key)

    def log(self, line: str) -> None:
        self.logs.append(line)


def _ready(updater: AnyUpdater, params: dict[str, Any]) -> Updater[Any]:
    if isinstance(updater, Updater):
        if params:
            raise TypeError("an instance has its parameters already; set them as attributes")
        ready = with_models(updater, type(updater).__name__)
    else:
        name = getattr(updater, "__name__", "updater")
        source = UpdaterSource(name, "", updater, "", "", "", parameters_of(updater))
        ready = make(source, convert(source, params))
    if not hasattr(ready, "client"):
        ready.client = offline_client()
    return ready
