"""The client that an updater gets: the official one, whose `get` remembers versions.

An entity that a handler reads with `self.client.get` and puts is written only if nobody has changed
it meanwhile, like the handled entity itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from google.cloud.datastore import Client, Entity, Key

from bulkup.datastore.google_private import copy_of, datastore_api
from bulkup.datastore.keys import key_bytes, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.rpc import Rpc

C = TypeVar("C", bound="UserClient")


class UserClient(Client):  # type: ignore[misc]
    """An official client whose `get` and `get_multi` return entities with their versions."""

    _rpc: Rpc

    @classmethod
    def over(cls: type[C], rpc: Rpc, client: Client) -> C:
        """Create one for the same target as `client`."""
        copy = copy_of(client, cls)
        copy._rpc = rpc
        return copy

    def get_multi(self, keys: Iterable[Key], missing: Any = None, **options: Any) -> list[Entity]:
        """Like the official method, which runs if more than keys and `missing` is given.

        Raises CallError.
        """
        keys = list(keys)
        if any(value not in (None, False) for value in options.values()) or self._in_transaction():
            found: list[Entity] = super().get_multi(keys, missing=missing, **options)
            return found
        if missing is not None and missing != []:
            raise ValueError("missing must be None or an empty list")
        if any(key.project != self.project for key in keys):
            raise ValueError("Keys do not match project")
        wanted = {key_bytes(pb): (key, pb) for key in keys for pb in [key_to_pb(key)]}
        results = self._rpc.lookup([pb for _, pb in wanted.values()])
        if missing is not None:
            missing.extend(Entity(key) for id_, (key, _) in wanted.items() if id_ not in results)
        return [LazyEntity(results[i].entity, results[i].version) for i in wanted if i in results]

    def _in_transaction(self) -> bool:
        return self.current_transaction is not None


class WriteInDryRunError(RuntimeError):
    """The updater used its client to write in a dry run."""


class _ReadOnlyApi:
    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        if name == "commit":
            raise WriteInDryRunError(
                "this is a dry run, so the updater cannot write through its client; use self.put "
                "and self.delete, which a dry run shows and a run guards"
            )
        return getattr(self._api, name)


class ReadOnlyClient(UserClient):
    """A client that refuses to commit, for a dry run."""

    @property
    def _datastore_api(self) -> Any:
        return _ReadOnlyApi(datastore_api(self))
