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
        """Read entities with one lookup: one for each key, in their order; None: not found.

        Like any read through `self.client`, it guards what the handler writes, and it returns what
        this call has put as it will be. Entities that an earlier `get` of the same batch, or of a
        handler a moment before, has read are not looked up again, unless the run has written them
        since.
        """
        keys = _listed(keys)
        if hasattr(self.client, "get_in_order"):
            in_order: list[Entity | None] = self.client.get_in_order(keys)
            return in_order
        found = {entity.key: entity for entity in self.client.get_multi([*dict.fromkeys(keys)])}
        return [found.get(key) for key in keys]

    async def aget(self, keys: Iterable[Any]) -> list[Entity | None]:
        """The same for an `async def handle_entity`, without blocking the other handlers. Lookups
        of several handlers become one."""
        keys = _listed(keys)
        if hasattr(self.client, "aget_in_order"):
            in_order: list[Entity | None] = await self.client.aget_in_order(keys)
            return in_order
        import asyncio  # not for each command

        return await asyncio.to_thread(self.get, keys)


def _listed(keys: Any) -> list[Any]:
    """Raises TypeError for a single key."""
    if not isinstance(keys, Iterable):
        raise TypeError(
            f"get takes several keys, not a {type(keys).__name__}: write self.get([key]), which "
            "returns a list, or self.client.get(key)"
        )
    return list(keys)
