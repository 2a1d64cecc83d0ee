"""Compares two sides: a merge join of two scans in key order, range by range.

Both sides of each range read a page ahead, and several ranges are in progress at once, so the
slower side sets the pace, not the sum of all waits. Memory holds two pages of each side for each
range in progress, whatever the number of entities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bulkup.core.difference import Change
from bulkup.datastore.entity_compare import EntityComparison
from bulkup.datastore.keys import key_of
from bulkup.datastore.messages import Pb, QueryPb
from bulkup.datastore.queries import Filter, kind_query
from bulkup.engine.compare.side import Reader, Side
from bulkup.engine.splits import Order, Sampling, key_order

RANGES = 8
"""Into how many ranges a kind is cut."""
AT_ONCE = 4
"""Ranges in progress. Each keeps up to 4 MiB in memory."""
LOOKED_UP_TOGETHER = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """One entity that differs between the two sides."""

    key: bytes
    """Its key, serialized, relative to the partition of each side."""
    a: Pb | None
    """A PageResult; None if the entity is not there."""
    b: Pb | None
    names: list[str]
    """The properties that differ. If one side lacks the entity, all of its properties."""

    @property
    def change(self) -> Change:
        if self.a is None:
            return Change.ONLY_B
        return Change.ONLY_A if self.b is None else Change.CHANGED

    @property
    def order(self) -> Order:
        return key_order(key_of(self.key))

    @property
    def kind(self) -> str:
        return str(key_of(self.key).path[-1].kind)


@dataclass(frozen=True)
class Scope:
    """Which entities are compared."""

    kinds: Sequence[str] = ()
    """Empty: all kinds."""
    where: Sequence[Filter] = ()
    """Conditions that an entity meets on at least one side."""

    def queries(self) -> list[Any]:
        if not self.kinds:
            return [QueryPb()]
        return [kind_query(kind, self.where) for kind in self.kinds]


Found = Callable[[Difference], None]
Same = Callable[[bytes], None]


class Comparison:
    """`found` is called with each difference, `same` with the relative key of each entity that is
    the same on both sides; within a range in the order of keys."""

    def __init__(self, a: Side, b: Side, found: Found, same: Same) -> None:
        b.rpc.arrived = a.rpc.arrived  # what arrives on either side ends a wait
        self._a, self._b = a, b
        self._entities = EntityComparison(a.partition, b.partition)
        self._found, self._same = found, same
        self._alone: list[tuple[bytes, Pb | None, Pb | None]] = []
        """For a query with conditions: entities that only one side found. The other side may have
        them, but not meeting the conditions."""

    def run(self, scope: Scope) -> None:
        """Raises BulkupError."""
        for query in scope.queries():
            ranges = [_Range(self, query, after, upto) for after, upto in self._bounds(query)]
            self._run(deque(ranges), looks_up=bool(scope.where))

    def _run(self, waiting: deque[_Range], *, looks_up: bool) -> None:
        active: list[_Range] = []
        arrived = self._a.rpc.arrived
        try:
            while active or waiting:
                while waiting and len(active) < AT_ONCE:
                    active.append(waiting.popleft())
                    active[-1].open()
                arrived.clear()
                moved = [one for one in active if one.step(looks_up=looks_up)]
                active = [one for one in active if not one.is_over]
                if looks_up and (len(self._alone) >= LOOKED_UP_TOGETHER or not (active or waiting)):
                    self._look_up()
                if active and not moved:
                    self._a.rpc.wait()
        finally:
            for one in active:
                one.close()

    def _bounds(self, query: Any) -> Iterable[tuple[bytes, bytes]]:
        """The ranges of a query, as relative keys. A query over all kinds is one range."""
        if not query.kind:
            return [(b"", b"")]
        side = self._b
        with side.explained():
            keys = Sampling(side.rpc, side.plan(query), RANGES).take().inside(b"", b"")
        parts = min(RANGES, len(keys))
        cuts = [side.partition.relative(keys[len(keys) * i // parts]) for i in range(1, parts)]
        return zip([b"", *cuts], [*cuts, b""], strict=True)

    def compare(self, key: bytes, a: Pb | None, b: Pb | None) -> None:
        """Compare an entity, PageResults of the two sides."""
        if a is None or b is None:
            there: Pb = a or b
            self._found(Difference(key, a, b, sorted(there.entity.properties)))
            return
        names = self._entities.differing(a.entity, b.entity)
        if names:
            self._found(Difference(key, a, b, names))
        else:
            self._same(key)

    def note_alone(self, key: bytes, a: Pb | None, b: Pb | None) -> None:
        self._alone.append((key, a, b))

    def _look_up(self) -> None:
        alone, self._alone = self._alone, []
        in_a = self._a.lookup([key for key, a, _ in alone if a is None])
        in_b = self._b.lookup([key for key, _, b in alone if b is None])
        for key, a, b in alone:
            self.compare(key, a or in_a.get(key), b or in_b.get(key))


class _Range:
    """The two readers of one key range."""

    def __init__(self, comparison: Comparison, query: Any, after: bytes, upto: bytes) -> None:
        self._comparison = comparison
        self._open_with = query, after, upto
        self._readers: tuple[Reader, Reader] | None = None

    def open(self) -> None:
        """Ask for the first pages."""
        a, b = self._comparison._a, self._comparison._b
        self._readers = Reader(a, *self._open_with), Reader(b, *self._open_with)

    @property
    def is_over(self) -> bool:
        assert self._readers is not None
        return all(reader.is_over for reader in self._readers)

    def close(self) -> None:
        for reader in self._readers or ():
            reader.close()

    def step(self, *, looks_up: bool) -> bool:
        """Compare what has arrived. Returns False while the next page of a side has not arrived."""
        assert self._readers is not None
        a, b = self._readers
        on_one_side = self._comparison.note_alone if looks_up else self._comparison.compare
        if a.is_waiting or b.is_waiting:
            return False
        a.fill()
        b.fill()
        while a.result is not None and b.result is not None:
            if a.key == b.key:
                self._comparison.compare(a.key, a.result, b.result)
                a.advance()
                b.advance()
            elif a.order < b.order:
                on_one_side(a.key, a.result, None)
                a.advance()
            else:
                on_one_side(b.key, None, b.result)
                b.advance()
        for reader, other in ((a, b), (b, a)):
            while other.is_over and reader.result is not None:
                pair = (reader.result, None) if reader is a else (None, reader.result)
                on_one_side(reader.key, *pair)
                reader.advance()
        return True
