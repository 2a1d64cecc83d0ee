"""Decides for each entity what to put back, by comparing the data then and now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from bulkup.core.errors import TargetError
from bulkup.core.rewinding import Action, Kept
from bulkup.datastore.entity_compare import with_properties
from bulkup.datastore.pages import updated_micros
from bulkup.datastore.reads import ABSENT
from bulkup.engine.compare.comparison import Comparison, Difference, Same, Scope
from bulkup.engine.compare.side import Side

LOOKED_UP_TOGETHER = 200

NOTHING = b""
"""In place of an image: there was no entity."""


@dataclass(frozen=True)
class Rules:
    """What is put back, and what is left alone."""

    properties: tuple[str, ...] = ()
    """Put back only these properties; empty: the whole entity."""
    keep_after: int | None = None
    """Leave alone what was written after this time (microseconds); None: no such time."""
    deletes_new: bool = False
    """Delete what was created since."""


@dataclass(frozen=True)
class Step:
    """One entity that is not as it was."""

    difference: Difference
    """`a` is the entity then, `b` the entity now."""
    action: Action
    kept: Kept | None = None
    """Why it is left alone."""

    def image(self, properties: tuple[str, ...]) -> bytes:
        """The serialized Entity to put back; NOTHING if the entity is to be deleted."""
        then, now = self.difference.a, self.difference.b
        if then is None:
            return NOTHING
        if now is not None and properties:
            return with_properties(now.entity, then.entity, self.difference.names)
        serialized: bytes = then.entity.SerializeToString()
        return serialized

    @property
    def version(self) -> int:
        """The version read now, which guards the write; ABSENT: it is not there."""
        now = self.difference.b
        return ABSENT if now is None else int(now.version)


class Rewinding:
    """`step` is called for each entity that is not as it was, `same` for the others.

    `fence`: the target as of `rules.keep_after`, if that is set.
    """

    def __init__(
        self,
        then: Side,
        now: Side,
        fence: Side | None,
        rules: Rules,
        step: Callable[[Step], None],
        same: Same,
    ) -> None:
        self._rules = rules
        self._fence = fence
        self._step = step
        self._same = same
        self._now = now
        self._comparison = Comparison(then, now, self._found, same)
        self._deleted: list[Difference] = []
        """Entities that were deleted since. Whether before the fence must still be looked up."""

    def run(self, scope: Scope) -> None:
        """Raises BulkupError."""
        self._comparison.run(scope)
        self._look_up()

    def _found(self, difference: Difference) -> None:
        rules = self._rules
        if rules.properties and difference.a is not None and difference.b is not None:
            names = [name for name in difference.names if name in rules.properties]
            if not names:
                self._same(difference.key)
                return
            difference = replace(difference, names=names)
        if difference.b is None:
            self._found_deleted(difference)
        elif self._is_newer(difference):
            self._step(Step(difference, Action.LEAVE, Kept.NEWER))
        elif difference.a is not None:
            self._step(Step(difference, Action.PUT_BACK))
        elif rules.deletes_new and not rules.properties:
            self._step(Step(difference, Action.DELETE))
        else:
            self._step(Step(difference, Action.LEAVE, Kept.NEW))

    def _is_newer(self, difference: Difference) -> bool:
        if self._rules.keep_after is None:
            return False
        updated = updated_micros(difference.b)
        if not updated:
            raise TargetError(
                f"{self._now.target} does not say when an entity was last written, so --keep-after "
                "cannot be kept; leave it out"
            )
        return updated > self._rules.keep_after

    def _found_deleted(self, difference: Difference) -> None:
        if self._rules.properties:
            self._step(Step(difference, Action.LEAVE, Kept.PARTIAL))
        elif self._fence is None:
            self._step(Step(difference, Action.RECREATE))
        else:
            self._deleted.append(difference)
            if len(self._deleted) >= LOOKED_UP_TOGETHER:
                self._look_up()

    def _look_up(self) -> None:
        """Look up the deleted entities at the fence: one that existed then was deleted later."""
        deleted, self._deleted = self._deleted, []
        if not deleted:
            return
        assert self._fence is not None
        there = self._fence.lookup([difference.key for difference in deleted])
        for difference in deleted:
            if difference.key in there:
                self._step(Step(difference, Action.LEAVE, Kept.NEWER))
            else:
                self._step(Step(difference, Action.RECREATE))


class WrittenAt:
    """When the entities that differ were last written. Counted by the minute, which bounds the
    size."""

    def __init__(self) -> None:
        self._minutes: Counter[int] = Counter()

    def note(self, difference: Difference) -> None:
        if difference.b is not None and (updated := updated_micros(difference.b)):
            self._minutes[updated // 60_000_000] += 1

    def minutes(self) -> list[tuple[int, int]]:
        """(Unix time of the minute, entities), in order of time."""
        return [(minute * 60, count) for minute, count in sorted(self._minutes.items())]
