"""Moves an entity to another key, with its descendants, in the commit of one handler call."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from google.cloud.datastore import Client, Entity, Key

from bulkup.authoring.running import client as handlers_client
from bulkup.authoring.writes import Delete
from bulkup.datastore.descendants import request_descendants
from bulkup.datastore.keys import key_text

MAX_TREE = 200
"""The most descendants moved together, with two writes each, in one commit of about 500 writes.
More could only be moved in parts, and a run that stops between two parts would leave half a tree.
"""


@dataclass(frozen=True)
class Move:
    """The writes that move an entity. A function returns it; a class puts `puts` and deletes
    `deletes`."""

    puts: tuple[Entity, ...] = ()
    deletes: tuple[Key, ...] = ()

    def __iter__(self) -> Iterator[Entity | Delete]:
        yield from self.puts
        if self.deletes:
            yield Delete(self.deletes)


def move(
    entity: Entity, key: Key, *, descendants: bool = True, client: Client | None = None
) -> Move:
    """Move the handled entity to another key, with all that it holds as it is stored.

    With its descendants, which an ancestor query finds; without, they stay where they are. Call it
    in a handler and write what it returns: everything lands in one commit or nothing does. The new
    keys are read, so that a put there is refused if somebody makes an entity meanwhile.

    `client`: the updater's; None: that of the handler that runs.
    Raises ValueError if an entity has a new key already, if there are more than 200 descendants, or
    if one of them is of the same kind, since it would be moved without being handled.
    """
    if key == entity.key:
        return Move()
    client = client or handlers_client()
    moving = Moving(entity, key)
    if descendants:
        moving.request_descendants(client)
    taken = {one.key for one in client.get_multi(moving.new_keys())}
    return moving.move(taken)


class Moving:
    """A move in steps, so that several moves can read at the same time."""

    def __init__(
        self, entity: Entity, key: Key, *, is_done: Callable[[Entity], bool] = lambda one: False
    ) -> None:
        """`is_done`: whether a descendant of the same kind no longer needs to be handled. Raises
        ValueError."""
        old = entity.key
        if old is None or old.is_partial or key.is_partial:
            raise ValueError("move needs two complete keys: the entity's own and the new one")
        _check_place(old, key)
        self._old, self._new = old, key
        self._is_done = is_done
        self._entities = [entity]
        self._wait: Callable[[], list[Entity]] = list
        self._new_keys: list[Key] = []

    def request_descendants(self, client: Client, *, may_be_unwritten: bool = True) -> None:
        """Start reading the descendants. `may_be_unwritten`: other handlers of the updater may
        write some."""
        self._wait = request_descendants(
            client, self._old, MAX_TREE, may_be_unwritten=may_be_unwritten
        )

    def new_keys(self) -> list[Key]:
        """The new keys of all entities that move; waits for the descendants. Raises ValueError."""
        found = self._wait()
        _check_descendants(self._old, found, self._is_done)
        self._entities += found
        self._new_keys = [_under(self._new, self._old, one.key) for one in self._entities]
        return self._new_keys

    @property
    def has_own_kind(self) -> bool:
        """Whether a descendant is of the entity's kind."""
        return any(one.key.kind == self._old.kind for one in self._entities[1:])

    def move(self, taken: Container[Key]) -> Move:
        """The writes of this move. `taken`: keys under which an entity exists. Raises ValueError if
        a new key is one of them."""
        for key in self._new_keys:
            if key in taken:
                raise ValueError(
                    f"{key_text(key)} exists already, so {key_text(self._old)} cannot move there; "
                    "delete or change one of them"
                )
        old_keys = tuple(one.key for one in self._entities)
        for one, new_key in zip(self._entities, self._new_keys, strict=True):
            one.key = new_key
        return Move(tuple(self._entities), old_keys)


def _check_place(old: Key, new: Key) -> None:
    if (old.project, old.database or None, old.namespace or None) != (
        new.project, new.database or None, new.namespace or None,
    ):  # fmt: skip
        raise ValueError(f"{key_text(old)} cannot move to another project, database or namespace")
    if new.flat_path[: len(old.flat_path)] == old.flat_path:
        raise ValueError(f"{key_text(old)} cannot move below itself, to {key_text(new)}")


def _check_descendants(key: Key, found: list[Entity], is_done: Callable[[Entity], bool]) -> None:
    """Raises ValueError."""
    if len(found) > MAX_TREE:
        raise ValueError(
            f"{key_text(key)} has more than {MAX_TREE} descendants, and a tree is moved in one "
            "commit or not at all; move the descendants first, with an updater for their kind"
        )
    for one in found:
        if one.key.kind == key.kind and not is_done(one):
            raise ValueError(
                f"{key_text(key)} has a descendant of its own kind, {key_text(one.key)}, which has "
                "to move first; let it fail for now (--max-failures -1), and run again"
            )


def _under(new: Key, old: Key, key: Key) -> Key:
    """The key of a descendant, or of the entity itself, below the new key."""
    rest = key.flat_path[len(old.flat_path) :]
    return Key(
        *new.flat_path, *rest,
        project=key.project, database=key.database, namespace=key.namespace,
    )  # fmt: skip
