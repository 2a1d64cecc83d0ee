"""How an updater reads many entities at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity


class EntityReader:
    """The part of an updater that reads."""

    client: Client
    """A `google.cloud.datastore.Client` for the run's target."""

    def get(self, keys: Iterable[Any]) -> list[Entity | None]:
        """Read entities with one lookup. Returns one for each key, in the order of the keys; None
        for a key that is not found.

        Like any read through `self.client`, it guards what the handler writes, and returns an
        entity that this call has put as it will be stored. Entities that an earlier `get` has read,
        in the same batch or in a handler a moment before, are not looked up again unless the run
        has written them since.
        """
        keys = _listed(keys)
        if hasattr(self.client, "get_in_order"):
            in_order: list[Entity | None] = self.client.get_in_order(keys)
            return in_order
        found = {entity.key: entity for entity in self.client.get_multi([*dict.fromkeys(keys)])}
        return [found.get(key) for key in keys]

    async def aget(self, keys: Iterable[Any]) -> list[Entity | None]:
        """Like `get`, for an `async def handle_entity`: does not block the other handlers. Lookups
        of several handlers are combined into one."""
        keys = _listed(keys)
        if hasattr(self.client, "aget_in_order"):
            in_order: list[Entity | None] = await self.client.aget_in_order(keys)
            return in_order
        import asyncio  # not imported for every command

        return await asyncio.to_thread(self.get, keys)


def _listed(keys: Any) -> list[Any]:
    """Raises TypeError for a single key."""
    if not isinstance(keys, Iterable):
        raise TypeError(
            f"get takes several keys, not a {type(keys).__name__}: write self.get([key]), which "
            "returns a list, or self.client.get(key)"
        )
    return list(keys)
