"""The built-in updater that lists references to entities that do not exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.cloud.datastore import Entity, Key
from google.cloud.datastore.query import PropertyFilter

from bulkup.authoring.param import param
from bulkup.authoring.sought import Sought
from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError
from bulkup.core.events import Report
from bulkup.datastore.keys import key_text
from bulkup.transforms.built_in import BuiltIn
from bulkup.transforms.sought import RefersTo
from bulkup.transforms.transform import checked_kind, checked_name


class FindReferences(BuiltIn):
    """List properties that refer to entities that are not there; write nothing."""

    to: str | None = param(None, help="only references to this kind, or below it")
    old_key_in: str | None = param(None, help="the property in which change-key has kept old keys")
    then_in: list[str] = param([], help="kinds to search after this one")

    def __init__(self) -> None:
        if self.old_key_in is not None:
            checked_name("old_key_in", self.old_key_in)
            if self.to is None:
                raise UsageError("old_key_in needs to=KIND, the kind whose keys have changed")
        for kind in self.then_in:
            checked_kind("then_in", kind)

    def handle_batch(self, entities: list[Entity]) -> None:
        found = [(entity, self._references(entity)) for entity in entities]
        gone = self._gone({key for _, references in found for _, key in references})
        for entity, references in found:
            for where, key in references:
                if key in gone:
                    self.log(
                        f"{key_text(entity.key)}: {where} refers to {key_text(key)}, which is not "
                        f"there{self._now(key)}",
                        owner=entity,
                    )

    def is_done(self, entity: Entity) -> bool:
        return not self._gone({key for _, key in self._references(entity)})

    def finish(self, success: bool, report: Report) -> None:
        if success and self.then_in:
            _search_next(self, search_of(self.then_in, self.to, self.old_key_in))

    def _sought(self) -> Sequence[Sought]:
        return () if self.to is None else (RefersTo(self.to),)

    def _references(self, entity: Entity) -> list[tuple[str, Key]]:
        return [
            (where, key)
            for name, value in entity.items()
            for where, key in _keys_in(repr(name), value)
            if self._is_looked_for(key)
        ]

    def _gone(self, keys: set[Key]) -> set[Key]:
        """The keys among these under which there is no entity."""
        return keys - {one.key for one in self.client.get_multi(keys)} if keys else keys

    def _is_looked_for(self, key: Key) -> bool:
        """Whether to check references to this key. The entities of another project or database
        cannot be read from here."""
        is_here = key.project == self.client.project and (key.database or None) == (
            self.client.database or None
        )
        is_wanted = self.to is None or self.to in key.flat_path[::2]
        return is_here and is_wanted and not key.is_partial

    def _now(self, key: Key) -> str:
        """The end of a sentence: the entity's present key, if change-key has kept the old key of
        the entity or of an ancestor. Otherwise empty."""
        path = key.flat_path
        for end in range(2, len(path) + 1, 2):
            if self.old_key_in is None or path[end - 2] != self.to:
                continue
            old = key if end == len(path) else _key(path[:end], key)
            query = self.client.query(kind=self.to, namespace=key.namespace)
            query.add_filter(filter=PropertyFilter(self.old_key_in, "=", old))
            query.keys_only()
            for one in query.fetch(limit=1):
                now = _key((*one.key.flat_path, *path[end:]), key)
                if self.client.get(now) is not None:
                    return f"; now {key_text(now)}"
        return ""


def _key(path: Sequence[Any], like: Key) -> Key:
    return Key(*path, project=like.project, database=like.database, namespace=like.namespace)


def search_of(kinds: Sequence[str], to: str | None, old_key_in: str | None) -> dict[str, Any]:
    """The parameters to search these kinds one after the other."""
    first, *rest = kinds
    return {"kind": first, "to": to, "old_key_in": old_key_in, "then_in": rest}


# Not in a method: successors named in the methods of bulkup's own classes are not found.
def _search_next(updater: Updater, search: dict[str, Any]) -> None:
    updater.then("find-references", **search)


def _keys_in(where: str, value: Any) -> Iterator[tuple[str, Key]]:
    """All keys in a value, and where they are."""
    if isinstance(value, Key):
        yield where, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _keys_in(f"{where}.{name!r}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _keys_in(f"{where}[{number}]", inner)
