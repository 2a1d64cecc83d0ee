"""Generated data and requests. The pools are small, so that the odd values meet each other."""

from __future__ import annotations

from typing import Any

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
"""Where orders and equalities go wrong: borders of a type, signs of zero, what only looks equal."""

KEY_PATHS: tuple[tuple[str | int, ...], ...] = (
    ("A", 1), ("A", 2), ("A", 10), ("A", 2**63 - 1), ("A", "1"), ("A", "a"), ("A", "a\0"),
    ("A", "é"), ("A", "\U0001f600"), ("B", 1), ("Ä", 1), ("Ä", "ä"), ("A", 1, "A", 1),
    ("A", 1, "B", 1), ("A", 1, "B", "b"), ("A", "a", "B", 1), ("B", 1, "A", 1, "A", 1),
    ("A", 1, "A", 2, "B", 3, "A", "x", "A", 5), ("AA", 1),
)  # fmt: skip

UNICODE = st.text(max_size=6)


def scalars(place: Place) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.sampled_from(SCALARS),
        st.sampled_from(SCALARS),
        st.sampled_from([place.key(*path) for path in KEY_PATHS]),
        st.integers(-3, 3),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=64),
        UNICODE,
        st.binary(max_size=4),
        st.builds(Time, st.integers(-(2**31), 2**33), st.integers(0, 999_999).map(_micros)),
        st.builds(Geo, st.floats(-90, 90), st.floats(-180, 180)),
    )


def _micros(n: int) -> int:
    # Datastore keeps microseconds; what the servers do with the rest is a test of its own.
    return n * 1000


def values(place: Place, *, arrays: bool = True) -> st.SearchStrategy[Any]:
    plain = scalars(place)
    options: list[st.SearchStrategy[Any]] = [plain, plain, plain, plain.map(Unindexed)]
    if arrays:
        options += [st.lists(plain, min_size=1, max_size=4)]
    inner = st.dictionaries(st.sampled_from(("x", "y")), plain, max_size=2)
    options += [
        st.fixed_dictionaries({}, optional={"x": plain, "y": plain}),
        st.fixed_dictionaries({"n": inner}, optional={"x": plain}),
    ]
    return st.one_of(options)


def entities(place: Place, *, arrays: bool = True) -> st.SearchStrategy[Any]:
    properties = st.fixed_dictionaries(
        {},
        optional={
            **{name: values(place, arrays=arrays) for name in PROPERTIES},
            "n": st.fixed_dictionaries({}, optional={"x": scalars(place), "y": scalars(place)}),
        },
    )
    return st.builds(place.entity, st.sampled_from(KEY_PATHS), properties)


def worlds(place: Place, *, arrays: bool = True, size: int = 10) -> st.SearchStrategy[list[Any]]:
    """Some entities with different keys."""
    return st.lists(
        entities(place, arrays=arrays),
        min_size=1,
        max_size=size,
        unique_by=lambda e: e.key.SerializeToString(deterministic=True),
    )


def stored_values(world: list[Any]) -> list[Any]:
    """Every indexed value that a filter on this world could meet, as (path, Value)."""
    found: list[Any] = []

    def visit(prefix: str, properties: Any) -> None:
        for name, value in properties.items():
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


@st.composite
def filters(draw: st.DrawFn, place: Place, world: list[Any], *, deep: bool = True) -> Any:
    """A filter that often hits something in `world`; not every one is allowed."""
    leaf = st.one_of(
        property_filters(place, world),
        property_filters(place, world),
        property_filters(place, world),
        key_filters(place, world),
    )
    flat = st.one_of(leaf, leaf, st.builds(all_of, leaf, leaf), st.builds(all_of, leaf, leaf, leaf))
    if not deep:
        return draw(flat)
    return draw(
        st.one_of(
            flat,
            flat,
            st.builds(any_of, leaf, leaf),
            st.builds(any_of, leaf, flat),
            st.builds(all_of, leaf, st.builds(any_of, leaf, leaf)),
        )
    )


@st.composite
def property_filters(draw: st.DrawFn, place: Place, world: list[Any]) -> Any:
    stored = stored_values(world)
    if stored and draw(st.integers(0, 3)):
        name, plain = draw(st.sampled_from(stored))
        some = st.one_of(st.sampled_from([v for n, v in stored if n == name]), scalars(place))
    else:
        name, plain = draw(st.sampled_from(PATHS)), draw(scalars(place))
        some = scalars(place)
    operator = draw(st.sampled_from([o for o in OPERATORS if o != "under"]))
    if operator in ("in", "not in"):
        plain = [plain, *draw(st.lists(some, max_size=3))]
    return where(name, operator, plain)


def key_filters(place: Place, world: list[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(
        st.sampled_from([e.key for e in world]),
        st.sampled_from([place.key(*path) for path in KEY_PATHS]),
    )
    return st.one_of(
        st.builds(
            where,
            st.just("__key__"),
            st.sampled_from(("<", "<=", ">", ">=", "=", "under", "under", "!=")),
            keys,
        ),
        st.builds(
            where,
            st.just("__key__"),
            st.sampled_from(("in", "not in")),
            st.lists(keys, min_size=1, max_size=3),
        ),
    )


def orders(*, keys: bool = True) -> st.SearchStrategy[tuple[str, ...]]:
    names = st.sampled_from((*PATHS, *PROPERTIES, *(("__key__",) if keys else ())))
    signed = st.builds(str.__add__, st.sampled_from(("", "-")), names)
    return st.lists(signed, max_size=3, unique_by=lambda o: o.removeprefix("-")).map(tuple)


@st.composite
def queries(
    draw: st.DrawFn, place: Place, world: list[Any], *, whole: bool = False, deep: bool = True
) -> Any:
    """Any query; with `whole` one that neither skips nor limits nor projects."""
    kinds = [e.key.path[-1].kind for e in world]
    kind = draw(st.sampled_from((*kinds, *kinds, *kinds, "A", None)))
    filtered = draw(st.one_of(st.none(), filters(place, world, deep=deep)))
    order = draw(orders())
    projection: tuple[str, ...] = ()
    distinct: tuple[str, ...] = ()
    offset, limit = 0, None
    if not whole:
        projection = draw(
            st.sampled_from(
                ((), (), (), (), ("__key__",), ("p",), ("q", "p"), ("n.x",), ("p", "__key__"))
            )
        )
        if projection and draw(st.booleans()):
            distinct = projection[:1]
        offset = draw(st.sampled_from((0, 0, 0, 1, 3, 20)))
        limit = draw(st.sampled_from((None, None, None, 0, 1, 2, 5, 50)))
    return query(
        kind, filter=filtered, order=order, projection=projection, distinct=distinct,
        offset=offset, limit=limit,
    )  # fmt: skip


@st.composite
def plain_queries(draw: st.DrawFn, place: Place, world: list[Any]) -> Any:
    """A query as the older emulator knows them: equalities, an ancestor, inequalities on one
    property, which is then the first order. Ends in key order, ascending, where that emulator has
    another opinion."""
    kind = draw(st.sampled_from([e.key.path[-1].kind for e in world]))
    stored = [*stored_values(world), *((name, None) for name in PROPERTIES)]
    filters = [
        where(name, "=", plain)
        for name, plain in draw(st.lists(st.sampled_from(stored), max_size=2))
    ]
    if draw(st.integers(0, 3)) == 0:
        ancestor = place.key(*draw(st.sampled_from(KEY_PATHS)))
        filters.append(where("__key__", "under", ancestor))
    order = list(draw(orders(keys=False)))
    if draw(st.booleans()):
        name, plain = draw(st.sampled_from(stored))
        operators = draw(
            st.sampled_from(((">",), (">=",), ("<",), ("<=",), (">", "<"), (">=", "<=")))
        )
        filters += [
            where(name, operator, draw(st.sampled_from((plain, *SCALARS))))
            for operator in operators
        ]
        order = [o for o in order if o.removeprefix("-") != name]
        order = [draw(st.sampled_from((name, "-" + name))), *order] if order else [name]
    if any(o.startswith("-") for o in order):
        order.append("__key__")
    return query(
        kind,
        filter=all_of(*filters) if filters else None,
        order=tuple(order),
        offset=draw(st.sampled_from((0, 0, 0, 2))),
        limit=draw(st.sampled_from((None, None, 1, 3))),
    )
