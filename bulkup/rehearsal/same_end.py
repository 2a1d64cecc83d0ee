"""Whether two passes ended with the same data, even if the server gave their new entities different
ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkup.core.rehearsal import Effect
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import EntityPb
from bulkup.engine.compare.effect import Tally, kind_of
from bulkup.local.encoding import encode_path
from bulkup.local.file_diff import Changed, changes, entities_at
from bulkup.state.kinds import OWN_KINDS
from bulkup.testing.new_ids import with_numbered_ids

MOST_COMPARED = 50_000
"""At most this many differing entities are kept in memory."""
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Varying:
    """What also differs between two uninterrupted passes: times, random numbers."""

    properties: frozenset[str] = frozenset()
    """In the form `Kind.name`."""
    kinds: frozenset[str] = frozenset()
    """Kinds whose new entities have different keys each time."""

    def named(self) -> tuple[str, ...]:
        keys = (f"the keys of new entities of {kind}" for kind in sorted(self.kinds))
        return (*sorted(self.properties), *keys)


@dataclass(frozen=True)
class EndDifference:
    """How the results of two passes differ."""

    effect: Effect
    pairs: tuple[Changed, ...]
    not_compared: int

    @property
    def is_none(self) -> bool:
        return not (self.effect.differs or self.not_compared)


def end_difference(
    base: Path, one: Path, other: Path, check: Callable[[], None], but: Varying | None = None
) -> EndDifference:
    """What differs in content between the results of two passes that began with `base`: ids that
    the server allocated to new entities count as equal."""
    differing, not_compared = _differing(base, one, other, check)
    pairs = tuple(_pairs(base, differing)) if differing else ()
    but = but or Varying()
    tally = Tally(but.properties)
    for before, after in _without_moved(pairs, but.kinds):
        tally.add(before, after)
    return EndDifference(tally.effect(), pairs, not_compared)


def varying_in(difference: EndDifference) -> Varying:
    """What differs between two passes that were not interrupted."""
    properties, kinds, tally = set(), set(), Tally()
    for before, after in difference.pairs:
        if before is None or after is None:
            kinds.add(kind_of(EntityPb.FromString(before or after)))
        else:
            kind = kind_of(EntityPb.FromString(after))
            properties |= {f"{kind}.{name}" for name in tally.differing(before, after)}
    return Varying(frozenset(properties), frozenset(kinds))


def _differing(
    base: Path, one: Path, other: Path, check: Callable[[], None]
) -> tuple[list[Changed], int]:
    found: list[Changed] = []
    tally, size, left_out = Tally(), 0, 0
    for number, (before, after) in enumerate(changes(one, other, OWN_KINDS, base=base)):
        if number % 1000 == 0:
            check()
        if before is not None and after is not None and not tally.differing(before, after):
            continue
        if len(found) >= MOST_COMPARED or size > _MOST_BYTES:
            left_out += 1
            continue
        size += len(before or b"") + len(after or b"")
        found.append(Changed(before, after))
    return found, left_out


def _pairs(base: Path, differing: Sequence[Changed]) -> Iterator[Changed]:
    """The entities that still differ once the new ids are numbered on both sides, paired by key."""
    left = [EntityPb.FromString(before) for before, _ in differing if before is not None]
    right = [EntityPb.FromString(after) for _, after in differing if after is not None]
    paths = {encode_path(entity.key.path) for entity in (*left, *right)}
    known = [EntityPb.FromString(body) for body in entities_at(base, paths)]
    one, other = (_by_key(with_numbered_ids(side, known)) for side in (left, right))
    for key in dict.fromkeys((*one, *other)):
        before, after = one.get(key), other.get(key)
        if before != after:
            yield Changed(before, after)


def _by_key(entities: Iterable[Any]) -> dict[bytes, bytes]:
    return {
        key_bytes(entity.key): entity.SerializeToString(deterministic=True) for entity in entities
    }


def _without_moved(pairs: Iterable[Changed], kinds: frozenset[str]) -> Iterator[Changed]:
    """Leave out the new entities of these kinds, if both sides have equally many: their keys say
    nothing."""
    alone: dict[str, tuple[list[Changed], list[Changed]]] = {kind: ([], []) for kind in kinds}
    for pair in pairs:
        before, after = pair
        if before is not None and after is not None:
            yield pair
            continue
        kind = kind_of(EntityPb.FromString(before or after))
        if kind in alone:
            alone[kind][before is None].append(pair)
        else:
            yield pair
    for gone, new in alone.values():
        if len(gone) != len(new):
            yield from (*gone, *new)
