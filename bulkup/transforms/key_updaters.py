"""Built-in updaters that give entities new keys: `bulkup run change-key ...`."""

from __future__ import annotations

from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.authoring.built_ins import is_built_in
from bulkup.authoring.param import param
from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError
from bulkup.core.events import Report
from bulkup.core.visible import visible
from bulkup.transforms.built_in import BuiltIn
from bulkup.transforms.keys import key_from_property, key_of_kind
from bulkup.transforms.moving import moved
from bulkup.transforms.references import search_of
from bulkup.transforms.transform import checked_kind, checked_name, shown

_DESCENDANTS = "move its descendants, too; false: leave them where they are"


class _Moves(BuiltIn):
    """Moves each entity to the key that `new_key` says, with its descendants, in one commit."""

    descendants: bool = param(True, help=_DESCENDANTS)

    def new_key(self, entity: Entity) -> Key:
        """Its present key: it stays. Raises ValueError if it cannot have a new one."""
        raise NotImplementedError

    def mark(self, entity: Entity) -> None:
        """Note on a moved entity where it comes from."""

    def handle_entity(self, entity: Entity) -> None:
        key = self.new_key(entity)
        if key == entity.key:
            return
        self.mark(entity)
        # No other handler of these writes below an entity; one of a class that is derived may.
        may_be_unwritten = not is_built_in(type(self))
        move = moved(
            entity, key, self.client, descendants=self.descendants,
            may_be_unwritten=may_be_unwritten, is_done=self.is_done,
        )  # fmt: skip
        self.put(move.puts)
        self.delete(move.deletes)

    def is_done(self, entity: Entity) -> bool:
        return bool(self.new_key(entity) == entity.key)


def _note_origin(entity: Entity, name: str | None, origin: Any) -> None:
    """Keep something of the old key in a property. Raises ValueError if that has another value."""
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

    def finish(self, success: bool, report: Report) -> None:
        if success and self.references:
            _search(self, search_of(self.references, self.handled_kind, self.old_key_in))


# Not in a method: in classes of bulkup's own nobody looks for the successors that they name.
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
