"""Built-in updaters that give entities new keys: `bulkup run change-key ...`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.authoring.built_ins import is_built_in
from bulkup.authoring.param import param
from bulkup.authoring.sought import Sought
from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError
from bulkup.core.events import Report
from bulkup.core.visible import visible
from bulkup.datastore.keys import key_text
from bulkup.transforms.built_in import BuiltIn
from bulkup.transforms.keys import key_from_property, key_of_kind
from bulkup.transforms.moving import Moving
from bulkup.transforms.references import search_of
from bulkup.transforms.sought import HasProperty, HasValue, NewProperty
from bulkup.transforms.transform import checked_kind, checked_name, shown

AT_ONCE = 50
"""How many trees are read at once. Each may have 200 entities."""

_DESCENDANTS = "move its descendants, too; false: leave them where they are"


class _AloneError(Exception):
    """An entity of a batch would write another one of the batch, so handle each alone."""


class _Moves(BuiltIn):
    """Moves each entity to the key that `new_key` returns, with its descendants, in one commit."""

    descendants: bool = param(True, help=_DESCENDANTS)

    def new_key(self, entity: Entity) -> Key:
        """The key to move to; the present key to stay. Raises ValueError if there can be none."""
        raise NotImplementedError

    def mark(self, entity: Entity) -> None:
        """Note on a moved entity where it comes from."""

    def handle_batch(self, entities: list[Entity]) -> None:
        taken: set[Key] = set()
        for start in range(0, len(entities), AT_ONCE):
            part = entities[start : start + AT_ONCE]
            self._move(part, taken, is_alone=len(entities) == 1)

    def _move(self, entities: list[Entity], taken: set[Key], *, is_alone: bool) -> None:
        """Move some entities. `taken`: keys given to others of the batch; adds those in use now."""
        new_keys: list[Key] = []
        moves: list[tuple[Entity, Moving]] = []
        for entity, moving in self._begun(entities):
            with self._failing(entity):
                new_keys += moving.new_keys()
                moves.append((entity, moving))
            if moving.has_own_kind and not is_alone:
                raise _AloneError(f"{key_text(entity.key)} has others of the batch below it")
        taken |= {one.key for one in self.client.get_multi(new_keys)} if new_keys else set()
        for entity, moving in moves:
            with self._failing(entity):
                self.mark(entity)
                move = moving.move(taken)
                self.put(move.puts, owner=entity)
                self.delete(move.deletes, owner=entity)
                taken.update(one.key for one in move.puts)

    def _begun(self, entities: list[Entity]) -> list[tuple[Entity, Moving]]:
        """The entities that are to move; their descendants have been requested, but not awaited."""
        # Handlers of these classes do not write below other entities; those of a subclass may.
        may_be_unwritten = not is_built_in(type(self))
        begun = []
        for entity in entities:
            with self._failing(entity):
                key = self.new_key(entity)
                if key == entity.key:
                    continue
                moving = Moving(entity, key, is_done=self.is_done)
                if self.descendants:
                    moving.request_descendants(self.client, may_be_unwritten=may_be_unwritten)
                begun.append((entity, moving))
        return begun

    @contextmanager
    def _failing(self, entity: Entity) -> Iterator[None]:
        """A ValueError in this block fails only this entity."""
        try:
            yield
        except ValueError as error:
            self.fail(entity, str(error))

    def is_done(self, entity: Entity) -> bool:
        return bool(self.new_key(entity) == entity.key)


def _note_origin(entity: Entity, name: str | None, origin: Any) -> None:
    """Keep the origin in a property. Raises ValueError if the property has another value."""
    if name is None:
        return
    if name in entity and entity[name] != origin:
        raise ValueError(
            f"property {name!r} exists already and is {shown(entity[name])}; note the origin in "
            "another property"
        )
    entity[name] = origin


class ChangeKey(_Moves):
    """Give entities new keys, made of a property; references to the old ones are listed."""

    key_from: str = param(help="the property that becomes the id (integer) or name (string)")
    old_key_in: str | None = param(None, help="keep the old key in this property")
    references: list[str] = param(
        [], help="kinds that are searched afterwards for references to keys that are gone"
    )

    def __init__(self) -> None:
        checked_name("key_from", self.key_from)
        if self.old_key_in is not None:
            checked_name("old_key_in", self.old_key_in)
            if self.old_key_in == self.key_from:
                raise UsageError(
                    f"key_from and old_key_in are both {visible(self.key_from)}; keep the old key "
                    "in another property"
                )
        for kind in self.references:
            checked_kind("references", kind)

    def new_key(self, entity: Entity) -> Key:
        return key_from_property(entity, self.key_from)

    def mark(self, entity: Entity) -> None:
        _note_origin(entity, self.old_key_in, entity.key)

    def _sought(self) -> Sequence[Sought]:
        return () if self.old_key_in is None else (NewProperty(self.old_key_in),)

    def finish(self, success: bool, report: Report) -> None:
        if success and self.references:
            _search(self, search_of(self.references, self.handled_kind, self.old_key_in))


# Not in a method: successors named in the methods of bulkup's own classes are not found.
def _search(updater: Updater, search: dict[str, Any]) -> None:
    updater.then("find-references", **search)


class SplitKind(_Moves):
    """Move entities of a kind to other kinds, by the value of a property."""

    by: str = param(help="the property that decides")
    into: list[str] = param(help="VALUE=KIND for each value; others stay where they are")

    def __init__(self) -> None:
        checked_name("by", self.by)
        self._kinds: dict[str, str] = {}
        for one in self.into:
            value, equals, kind = one.rpartition("=")
            if not equals:
                raise UsageError(f"into={shown(one)} has no kind; write VALUE=KIND")
            if value in self._kinds:
                raise UsageError(f"into has {visible(value)} twice; give each value one kind")
            self._kinds[value] = checked_kind("into", kind)
        if not self._kinds:
            raise UsageError("into is empty; write VALUE=KIND for at least one value")

    def new_key(self, entity: Entity) -> Key:
        value = entity.get(self.by)
        if isinstance(value, bool):
            value = "true" if value else "false"
        kind = self._kinds.get(str(value)) if isinstance(value, (str, int)) else None
        return entity.key if kind is None else key_of_kind(entity, kind)

    def _new_kinds(self) -> Sequence[str]:
        return tuple(dict.fromkeys(self._kinds.values()))

    def _sought(self) -> Sequence[Sought]:
        values = [HasValue(self.by, value, kind) for value, kind in self._kinds.items()]
        return HasProperty(self.by, "used to move any"), *values


class MergeKind(_Moves):
    """Move all entities of a kind to another kind."""

    to: str = param(help="the other kind")
    origin_in: str | None = param(None, help="keep the name of the old kind in this property")

    def __init__(self) -> None:
        checked_kind("to", self.to)
        if self.origin_in is not None:
            checked_name("origin_in", self.origin_in)

    def check_kind(self) -> None:
        super().check_kind()
        if self.handled_kind == self.to:
            raise UsageError(f"kind and to are both {visible(self.to)}; name two kinds")

    def new_key(self, entity: Entity) -> Key:
        return key_of_kind(entity, self.to)

    def mark(self, entity: Entity) -> None:
        _note_origin(entity, self.origin_in, entity.key.kind)

    def _new_kinds(self) -> Sequence[str]:
        return (self.to,)

    def _sought(self) -> Sequence[Sought]:
        return () if self.origin_in is None else (NewProperty(self.origin_in),)
