"""The client that an updater gets. In a dry run: one that reads as ever and does not write."""

from __future__ import annotations

from typing import Any

from google.cloud.datastore import Client

_WRITES = frozenset({"commit"})


class WriteInDryRunError(RuntimeError):
    """The updater wrote through its client in a dry run."""


class _ReadOnlyApi:
    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        if name in _WRITES:
            raise WriteInDryRunError(
                "this is a dry run, and the updater writes through its client: use self.put and "
                "self.delete, which a dry run shows, and a run guards"
            )
        return getattr(self._api, name)


class ReadOnlyClient(Client):  # type: ignore[misc]
    """An official client that reads as ever and refuses to commit."""

    @classmethod
    def like(cls, client: Client) -> ReadOnlyClient:
        """One for the same target as `client`."""
        twin = cls.__new__(cls)
        twin.__dict__.update(client.__dict__)
        return twin

    @property
    def _datastore_api(self) -> Any:
        return _ReadOnlyApi(Client._datastore_api.fget(self))
