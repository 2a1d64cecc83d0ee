"""Moves an entity to another key, with its descendants, in the commit of one handler call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.cloud.datastore import Client, Entity, Key

from bulkup.authoring.updater import client as handlers_client
from bulkup.authoring.writes import Delete
from bulkup.datastore.descendants import descendants as descendants_of
from bulkup.datastore.keys import key_text

MAX_TREE = 200
"""Descendants that are moved at once, with two writes each, in one commit of about 500. More could
only be moved in parts, and a run that stops between two parts would leave half a tree."""


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
    return moved(entity, key, client or handlers_client(), descendants=descendants)


def moved(
    entity: Entity,
    key: Key,
    client: Client,
    *,
    descendants: bool = True,
    may_be_unwritten: bool = True,
    is_done: Callable[[Entity], bool] = lambda one: False,
) -> Move:
    """`move`. `may_be_unwritten`: other handlers of the updater may write descendants. `is_done`:
    whether a descendant of the same kind need not be handled any more."""
    old = entity.key
    if old is None or old.is_partial or key.is_partial:
        raise ValueError("move needs two complete keys: of what is stored, and of where it goes")
    if key == old:
        return Move()
    _check_place(old, key)
    all_moved = [entity]
    if descendants:
        all_moved += _descendants(client, old, may_be_unwritten, is_done)
    old_keys = tuple(one.key for one in all_moved)
    new_keys = [_under(key, old, one) for one in old_keys]
    taken = client.get_multi(new_keys)
    if taken:
        raise ValueError(
            f"{key_text(taken[0].key)} exists already, so {key_text(old)} cannot move there; "
            "delete or change one of them"
        )
    for one, new_key in zip(all_moved, new_keys, strict=True):
        one.key = new_key
    return Move(tuple(all_moved), old_keys)


def _check_place(old: Key, new: Key) -> None:
    if (old.project, old.database or None, old.namespace or None) != (
        new.project, new.database or None, new.namespace or None,
    ):  # fmt: skip
        raise ValueError(f"{key_text(old)} cannot move to another project, database or namespace")
    if new.flat_path[: len(old.flat_path)] == old.flat_path:
        raise ValueError(f"{key_text(old)} cannot move below itself, to {key_text(new)}")


def _descendants(
    client: Client, key: Key, may_be_unwritten: bool, is_done: Callable[[Entity], bool]
) -> list[Entity]:
    found = descendants_of(client, key, MAX_TREE, may_be_unwritten=may_be_unwritten)
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
    return found


def _under(new: Key, old: Key, key: Key) -> Key:
    """The key of a descendant, or of the entity itself, below the new key."""
    rest = key.flat_path[len(old.flat_path) :]
    return Key(
        *new.flat_path, *rest,
        project=key.project, database=key.database, namespace=key.namespace,
    )  # fmt: skip
