"""What a run in a test has done."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, SupportsIndex

from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import entity_from_protobuf

from bulkup.core.changes import PropertyChange, WouldChange
from bulkup.core.meant import error_with_hint
from bulkup.core.model import Failure
from bulkup.core.typed_key import typed_key
from bulkup.datastore.entity_diff import describe_changes
from bulkup.datastore.keys import key_bytes, key_from_pb, key_text
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb
from bulkup.report.change_lines import change_lines
from bulkup.report.text import clean

if TYPE_CHECKING:
    from google.cloud.datastore import Client

    from bulkup.core.events import Report


_LINE = re.compile(r'^  File "(.+)", line ([0-9]+)', re.M)


class RunFailedError(AssertionError):
    """A run in a test did not finish; the message says why."""


@dataclass(frozen=True)
class Diff:
    """One entity that a run has written or deleted."""

    key: Key
    before: Entity | None
    """None if the run created it."""
    after: Entity | None
    """None if the run deleted it."""
    changes: tuple[PropertyChange, ...] = field(repr=False)

    @property
    def action(self) -> str:
        if self.after is None:
            return "deleted"
        if self.before is None:
            return "created"
        return "changed" if self.changes else "rewritten"

    def __str__(self) -> str:
        """The key and, on a line each, the properties before and after."""
        action = "delete" if self.after is None else "put"
        changes = self.changes if self.after is not None else ()
        lines = change_lines(WouldChange(key_text(self.key), action, changes), is_done=True)
        return "\n".join(line.plain for line in lines)

    def __repr__(self) -> str:
        changes = [f"{clean(c.name)}: {_side(c.before)} → {_side(c.after)}" for c in self.changes]
        shown = f" ({', '.join(changes)})" if changes and self.action == "changed" else ""
        return f"<{clean(key_text(self.key))} {self.action}{shown}>"


def _side(value: str | None) -> str:
    return "(none)" if value is None else clean(value)


@dataclass(frozen=True)
class FailedEntity:
    """An entity that the handler raised for, or that could not be written."""

    key: Key
    step: str
    """`handle`: the handler raised; `write`: Datastore refused; `read`: it cannot be decoded."""
    error: str
    """One line, such as `KeyError: 'fist_name'`, and what may have been meant."""
    traceback: str
    """The frames of the user's code, if the handler raised."""

    def __str__(self) -> str:
        lines = _LINE.findall(self.traceback)
        where = f" ({PurePath(lines[-1][0]).name}:{lines[-1][1]})" if lines else ""
        is_said = where in self.error
        return clean(f"{key_text(self.key)}: {self.error}{'' if is_said else where}")

    def __repr__(self) -> str:
        return f"<{self}>"


class EntityList(list[Entity]):
    """Entities; the error for an index out of range says what the run did instead."""

    def __init__(self, entities: Iterable[Entity], result: RunResult) -> None:
        super().__init__(entities)
        self.result = result

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        try:
            return super().__getitem__(index)
        except IndexError:
            raise IndexError(f"there is no entity {index!r}; {self.result.summary()}") from None


@dataclass(frozen=True)
class RunResult:
    """What `run_updater` returns."""

    updater: str
    """The updater's name."""
    diffs: list[Diff]
    """Each entity that was written or deleted, in the order of the keys."""
    logged: list[str]
    """What the handlers logged."""
    failed: list[FailedEntity]
    """Empty if no handler raised."""
    report: Report
    """The engine's report."""
    _stored: tuple[Any, ...] = field(repr=False)

    @cached_property
    def written(self) -> EntityList:
        """The entities that were written, as they are stored now, in the order of their keys.

        An entity that was put unchanged is not written (`rewrite_unchanged`), as in any run.
        """
        return EntityList((diff.after for diff in self.diffs if diff.after is not None), self)

    @cached_property
    def deleted(self) -> list[Key]:
        return [diff.key for diff in self.diffs if diff.after is None]

    @cached_property
    def entities(self) -> EntityList:
        """Everything that is stored after the run, in the order of the keys."""
        return EntityList((entity_of(message) for message in self._stored), self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The run's warnings: of changes that no put has written, for example."""
        return self.report.warnings

    def summary(self) -> str:
        """In one line, the worst first."""
        parts = []
        if self.failed:
            more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
            parts.append(f"{self.failed[0]}{more} failed")
        parts.append(
            f"{self.updater} handled {self.report.counts.handled}, wrote {len(self.written)} and "
            f"deleted {len(self.deleted)}"
        )
        parts += [clean(warning.partition("\n")[0]) for warning in self.warnings]
        return "; ".join(parts)

    def __repr__(self) -> str:
        return f"<RunResult: {self.summary()}>"

    def __str__(self) -> str:
        """The summary, and each change."""
        return "\n".join([self.summary(), *map(str, self.diffs)])


def entity_of(message: Any) -> Entity:
    return entity_from_protobuf(message)


def diffs_of(
    before: Sequence[Any], after: Sequence[Any], *, rewritten: Collection[bytes] = ()
) -> list[Diff]:
    """The differences between two lists of Entity messages. `rewritten`: keys to list even if
    nothing differs."""
    old = {key_bytes(entity.key): entity for entity in before}
    new = {key_bytes(entity.key): entity for entity in after}
    diffs = [
        _diff(old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if key in rewritten or _serialized(old.get(key)) != _serialized(new.get(key))
    ]
    return sorted(diffs, key=lambda diff: _order(diff.key))


def _serialized(entity: Any) -> bytes | None:
    return None if entity is None else bytes(entity.SerializeToString(deterministic=True))


def _order(key: Key) -> list[tuple[str, bool, Any]]:
    """Datastore's order: by kind, then ids before names."""
    path = [*key.flat_path, 0]
    return [
        (kind, isinstance(ident, str), ident)
        for kind, ident in zip(path[::2], path[1::2], strict=False)
    ]


def _diff(old: Any, new: Any) -> Diff:
    key = (new or old).key
    empty = EntityPb(key=key)
    changes = describe_changes(LazyEntity(old or empty), new or empty)
    return Diff(
        key_from_pb(key),
        old and entity_of(old),
        new and entity_of(new),
        tuple(PropertyChange(*change) for change in changes),
    )


def failed_entity(failure: Failure, before: Sequence[Any], client: Client) -> FailedEntity:
    """A failure for a test. `before`: the Entity messages before the run, to suggest what a
    misspelled property may have meant."""
    typed = typed_key(failure.key)
    assert typed is not None, failure.key  # it was written by `key_text`
    path = [part for pair in typed["path"] for part in pair]
    there = (e.properties for e in before if key_text(e.key) == failure.key)
    return FailedEntity(
        client.key(*path, namespace=typed["namespace"] or None),
        failure.step,
        error_with_hint(failure.error, next(there, ())),
        failure.traceback,
    )
