"""Generated data and requests. The pools are small, so that unusual values meet each other.

Strategies cost more to make than to draw from, so they are made once. Their keys are in NOWHERE,
and `relocate` moves what was drawn into the place of a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.local.differential.build import (
    OPERATORS,
    Geo,
    Place,
    Time,
    Unindexed,
    all_of,
    any_of,
    query,
    where,
)
from tests.local.differential.wire import Key

T = TypeVar("T")

NOWHERE = Place("nowhere")

KINDS = ("A", "B", "Ä")
PROPERTIES = ("p", "q", "r")
PATHS = (*PROPERTIES, "n.x", "n.y", "n.n.x", "a.b")

SCALARS: tuple[Any, ...] = (
    None, False, True,
    0, 1, -1, 2, 7, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63),
    0.0, -0.0, 1.0, -1.0, 1.5, 7.0, 2.0**53, 5e-324, 1.7e308, float("inf"), float("-inf"),
    float("nan"),
    "", "a", "A", "aa", "a\0", "a\0b", "b", "é", "e\u0301", "ß", "z", "\uffff", "\U0001f600",
    b"", b"\0", b"a", b"a\0", b"\x7f", b"\x80", b"\xff", b"\xff\xff",
    Time(0), Time(0, 1000), Time(1), Time(-1, 999_999_000), Time(-62135596800), Time(253402300799),
    Geo(0.0, 0.0), Geo(-0.0, 0.0), Geo(90.0, 180.0), Geo(-90.0, -180.0), Geo(1.0, -1.0),
)  # fmt: skip
"""Where orders and equalities go wrong: limits of a type, signs of zero, values that look equal."""

KEY_PATHS: tuple[tuple[str | int, ...], ...] = (
    ("A", 1), ("A", 2), ("A", 10), ("A", 2**63 - 1), ("A", "1"), ("A", "a"), ("A", "a\0"),
    ("A", "é"), ("A", "\U0001f600"), ("B", 1), ("Ä", 1), ("Ä", "ä"), ("A", 1, "A", 1),
    ("A", 1, "B", 1), ("A", 1, "B", "b"), ("A", "a", "B", 1), ("B", 1, "A", 1, "A", 1),
    ("A", 1, "A", 2, "B", 3, "A", "x", "A", 5), ("AA", 1),
)  # fmt: skip


def relocate(place: Place, message: Any) -> Any:
    """A copy of an entity, a query or a key, with all its keys in `place`."""
    relocated = type(message)()
    relocated.CopyFrom(message)
    _settle(place.partition(), relocated)
    return relocated


def _settle(partition: Any, message: Any) -> None:
    if isinstance(message, Key):
        message.partition_id.CopyFrom(partition)
        return
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = list(content.values())
        else:
            parts = list(content) if field.is_repeated else [content]
        for part in parts:
            _settle(partition, part)


@cache
def _below(number: int) -> st.SearchStrategy[int]:
    return st.integers(0, number - 1)


def _pick(draw: st.DrawFn, options: Sequence[T]) -> T:
    """Like sampled_from, without a strategy for each list."""
    return options[draw(_below(len(options)))]


def _one_in(draw: st.DrawFn, number: int) -> bool:
    return draw(_below(number)) == number - 1


def _micros(n: int) -> int:
    # Datastore keeps microseconds; another test covers what the servers do with the rest.
    return n * 1000


_KEYS = st.sampled_from(KEY_PATHS).map(lambda path: NOWHERE.key(*path))
_SCALARS = st.one_of(
    st.sampled_from(SCALARS),
    st.sampled_from(SCALARS),
    _KEYS,
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=64),
    st.text(max_size=6),
    st.binary(max_size=4),
    st.builds(Time, st.integers(-(2**31), 2**33), st.integers(0, 999_999).map(_micros)),
    st.builds(Geo, st.floats(-90, 90), st.floats(-180, 180)),
)
_INNER = st.fixed_dictionaries({}, optional={"x": _SCALARS, "y": _SCALARS})
_VALUES = st.one_of(
    _SCALARS,
    _SCALARS,
    _SCALARS,
    _SCALARS.map(Unindexed),
    _INNER,
    st.fixed_dictionaries({"n": _INNER}, optional={"x": _SCALARS}),
)
_VALUES_AND_ARRAYS = st.one_of(_VALUES, _VALUES, st.lists(_SCALARS, min_size=1, max_size=4))


def _entities(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.fixed_dictionaries(
        {"p": values}, optional={"q": values, "r": values, "n": _INNER}
    )
    return st.builds(NOWHERE.entity, st.sampled_from(KEY_PATHS), properties)


@cache
def worlds(*, arrays: bool = True, size: int = 12) -> st.SearchStrategy[list[Any]]:
    """Some entities with different keys."""
    return st.lists(
        _entities(_VALUES_AND_ARRAYS if arrays else _VALUES),
        min_size=min(6, size),
        max_size=size,
        unique_by=lambda e: e.key.SerializeToString(deterministic=True),
    )


def stored_values(world: list[Any]) -> list[Any]:
    """Every indexed value that a filter on this world could match, as (path, Value)."""
    found: list[Any] = []

    def visit(prefix: str, properties: Any) -> None:
        for name, value in sorted(properties.items()):
            if value.exclude_from_indexes:
                continue
            which = value.WhichOneof("value_type")
            if which == "entity_value":
                visit(f"{prefix}{name}.", value.entity_value.properties)
            elif which == "array_value":
                found.extend((prefix + name, v) for v in value.array_value.values)
            else:
                found.append((prefix + name, value))

    for entity in world:
        visit("", entity.properties)
    return found


_COMPARISONS = (*(o for o in OPERATORS if o != "under"), "<", ">", "!=", "in")
_FEW_SCALARS = st.lists(_SCALARS, max_size=2)


@st.composite
def property_filters(draw: st.DrawFn, world: list[Any]) -> Any:
    """A filter on a property, usually with a stored value."""
    stored = stored_values(world)
    alike: list[Any] = []
    if stored and not _one_in(draw, 4):
        name, plain = _pick(draw, stored)
        alike = [v for n, v in stored if n == name]
    else:
        name, plain = _pick(draw, PATHS), draw(_SCALARS)
    operator = _pick(draw, _COMPARISONS)
    if operator in ("in", "not in"):
        few: int = draw(_below(3))
        plain = [plain, *alike[:few], *draw(_FEW_SCALARS)]
    return where(name, operator, plain)


_KEY_COMPARISONS = ("<", "<=", ">", ">=", "=", "under", "under", "!=", "in", "not in")


@st.composite
def key_filters(draw: st.DrawFn, world: list[Any]) -> Any:
    keys = [e.key for e in world] + [NOWHERE.key(*path) for path in KEY_PATHS]
    operator = _pick(draw, _KEY_COMPARISONS)
    if operator in ("in", "not in"):
        return where("__key__", operator, [_pick(draw, keys) for _ in range(1 + draw(_below(3)))])
    return where("__key__", operator, _pick(draw, keys))


@st.composite
def filters(draw: st.DrawFn, world: list[Any]) -> Any:
    """A filter that often matches something in `world`; some are invalid."""

    def leaf() -> Any:
        one = key_filters(world) if _one_in(draw, 4) else property_filters(world)
        return draw(one)

    match draw(_below(8)):
        case 0:
            return all_of(leaf(), leaf())
        case 1:
            return all_of(leaf(), leaf(), leaf())
        case 2 | 3:
            return any_of(leaf(), leaf())
        case 4:
            return any_of(leaf(), all_of(leaf(), leaf()), leaf())
        case 5:
            return all_of(leaf(), any_of(leaf(), leaf()))
        case _:
            return leaf()


@cache
def orders(*, keys: bool = True) -> st.SearchStrategy[tuple[str, ...]]:
    # Entities without a property are left out, so the more frequent names are on most entities.
    often = ("p", "p", "p", "q", "q", *(("__key__",) if keys else ()))
    names = st.sampled_from((*often, *often, *PATHS))
    signed = st.builds(str.__add__, st.sampled_from(("", "-")), names)
    return st.lists(signed, max_size=2, unique_by=lambda o: o.removeprefix("-")).map(tuple)


_PROJECTIONS = ((), (), (), (), ("__key__",), ("p",), ("q", "p"), ("n.x",), ("p", "__key__"))
_OFFSETS = (0, 0, 0, 1, 3, 20)
_LIMITS = (None, None, None, 0, 1, 2, 5, 50)


@st.composite
def queries(draw: st.DrawFn, world: list[Any], *, whole: bool = False) -> Any:
    """Any query; with `whole`, one without offset, limit and projection."""
    kinds = [e.key.path[-1].kind for e in world]
    kind = _pick(draw, (*kinds, *kinds, *kinds, "A", None))
    filtered = None if _one_in(draw, 3) else draw(filters(world))
    order: tuple[str, ...] = () if _one_in(draw, 2) else draw(orders())
    if whole:
        return query(kind, filter=filtered, order=order)
    projection = _pick(draw, _PROJECTIONS)
    named = tuple(name for name in projection if name != "__key__")
    distinct = named[:1] if _one_in(draw, 2) else ()
    return query(
        kind, filter=filtered, order=order, projection=projection, distinct=distinct,
        offset=_pick(draw, _OFFSETS), limit=_pick(draw, _LIMITS),
    )  # fmt: skip


_RANGES = ((">",), (">=",), ("<",), ("<=",), (">", "<"), (">=", "<="))


@st.composite
def plain_queries(draw: st.DrawFn, world: list[Any]) -> Any:
    """A query that the older emulator supports: equalities, an ancestor, inequalities on one
    property, which is then the first order. The last order is by key, ascending, where that
    emulator would order differently."""
    kind = _pick(draw, [e.key.path[-1].kind for e in world])
    stored = [*stored_values(world), *((name, None) for name in PROPERTIES)]
    equal = [_pick(draw, stored) for _ in range(draw(_below(3)))]
    filtered = [where(name, "=", plain) for name, plain in equal]
    if _one_in(draw, 4):
        filtered.append(where("__key__", "under", NOWHERE.key(*_pick(draw, KEY_PATHS))))
    order = list(draw(orders(keys=False)))
    if _one_in(draw, 2):
        name, plain = _pick(draw, stored)
        for operator in _pick(draw, _RANGES):
            filtered.append(where(name, operator, _pick(draw, (plain, *SCALARS))))
        order = [o for o in order if o.removeprefix("-") != name]
        order = [_pick(draw, (name, "-" + name)), *order] if order else [name]
    if any(o.startswith("-") for o in order):
        order.append("__key__")
    return query(
        kind,
        filter=all_of(*filtered) if filtered else None,
        order=tuple(order),
        offset=_pick(draw, (0, 0, 0, 2)),
        limit=_pick(draw, (None, None, 1, 3)),
    )
