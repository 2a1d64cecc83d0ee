"""A fresh embedded Datastore in this process, for one test."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkup.core.environment import settled
from bulkup.datastore.containment import PROJECT_VARIABLES
from bulkup.datastore.target import EMULATOR_VARIABLE, Target, resolve
from bulkup.datastore.value_codec import write_entity
from bulkup.local.access import OpenFile
from bulkup.local.contents import contents
from bulkup.local.encoding import Partition
from bulkup.local.server import DatastoreServer
from bulkup.local.status import RpcError
from bulkup.local.storage import Storage, now_micros
from bulkup.local.transfer import Source, load
from bulkup.state.kinds import OWN_KINDS

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
"""Files there are in memory. On a disk, a run would spend most of its time waiting for it."""


_resolving = threading.Lock()
"""Held while a client reads its address from the environment, which other threads set, too."""


class _Clock:
    """The server's clock, which a test can set ahead."""

    ahead_micros = 0

    def __call__(self) -> int:
        return now_micros() + self.ahead_micros


@dataclass(frozen=True)
class Store:
    """An embedded Datastore, and a place for the state of the runs on it."""

    target: Target
    folder: Path
    """Removed with the store."""
    _server: DatastoreServer
    _place: Partition
    _clock: _Clock

    @property
    def client(self) -> Client:
        client: Client = self.target.client
        return client

    def put(self, entities: Sequence[Entity]) -> None:
        """Raises TypeError, ValueError for an entity that Datastore would refuse."""
        for entity in entities:
            self._check_place(entity)
        with OpenFile(self._server.storage, self._place) as file:
            for at in range(0, len(entities), 500):
                messages = [_message(entity) for entity in entities[at : at + 500]]
                try:
                    file.put(messages)
                except RpcError as error:
                    raise ValueError(f"Datastore refuses these entities: {error.message}") from None

    def load(self, path: str | os.PathLike[str], kind: str) -> None:
        """Load a file of JSON lines. Raises OSError, LoadError."""
        with (
            open(path, "rb") as stream,
            OpenFile(self._server.storage, self._place) as file,
        ):
            load(file, Source(stream, os.fspath(path), kind))

    def contents(self) -> list[Any]:
        """All Entity messages, in the order of their keys, without those of bulkup itself."""
        return [
            entity
            for entity in contents(self._server.storage)
            if entity.key.path[-1].kind not in OWN_KINDS
        ]

    def later(self, seconds: float) -> None:
        """Set the server's clock ahead by this many seconds."""
        self._clock.ahead_micros += int(seconds * 1e6)

    def _check_place(self, entity: Entity) -> None:
        if entity.key is None:
            raise ValueError(f"{dict(entity)!r} has no key")
        here = self._place.project, self._place.database
        there = entity.key.project, entity.key.database or ""
        if there != here:
            raise ValueError(
                f"{entity.key!r} is a key of another project or database than {here[0]!r}; give "
                "all entities keys of one client"
            )


@contextmanager
def fresh_store(place: Partition) -> Iterator[Store]:
    """An empty store. In this block, the environment names it, so `Client()` uses it, too."""
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="bulkup-test-", dir=_fast_folder())
        )
        clock = _Clock()
        storage = Storage(Path(folder, "datastore"), clock=clock)
        server = DatastoreServer(storage.path, storage=storage)
        stack.callback(server.stop)
        variables = dict.fromkeys(PROJECT_VARIABLES, place.project)
        with _resolving:
            stack.enter_context(settled({EMULATOR_VARIABLE: server.host, **variables}))
            target = resolve(place.project, place.database, place.namespace)
        stack.callback(target.client.close)
        yield Store(target, Path(folder), server, place, clock)


def _fast_folder() -> str | None:
    return str(_IN_MEMORY) if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else None


def _message(entity: Entity) -> Any:
    from bulkup.datastore.messages import EntityPb

    message = EntityPb()
    write_entity(message, entity)
    return message
