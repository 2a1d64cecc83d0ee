"""`bulkup diff`: what differs between two sides. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bulkup.core.clock import Clock
from bulkup.core.difference import DiffReport, EntityDifference, OnDifference, SideInfo
from bulkup.core.errors import UsageError
from bulkup.core.events import PropertyChange
from bulkup.datastore.entity_compare import PropertyDifference, properties_of, text_of
from bulkup.engine.compare.comparison import Comparison, Difference, Scope
from bulkup.engine.compare.side import Side
from bulkup.engine.compare.tally import FirstOf, Tally
from bulkup.runs.sides import SideOptions, check_scope, check_something_compared, open_sides

TELL_EVERY = 500
"""Entities between two calls of `on_progress`."""


def diff(
    a: SideOptions,
    b: SideOptions,
    scope: Scope,
    *,
    sample: int | None,
    on_difference: OnDifference,
    on_progress: Callable[[int], None] = lambda compared: None,
) -> DiffReport:
    """Compare two sides.

    `on_difference` gets the first `sample` differences of each kind of change, in key order, once
    everything is compared. If `sample` is None, it gets every difference as it is found. Raises
    BulkupError.
    """
    check_scope(scope)
    clock = Clock()
    started, began = clock.now(), clock.monotonic()
    with open_sides(a, b) as (first, second):
        infos = SideInfo(first.target, first.micros), SideInfo(second.target, second.micros)
        if infos[0] == infos[1]:
            raise UsageError(
                f"both sides are {infos[0]}; give the other time with --from, or the other side "
                "with --with (`bulkup diff --help` has examples)"
            )
        tally, firsts = Tally(), FirstOf[Difference](sample or 0)

        def found(difference: Difference) -> None:
            tally.found(difference)
            if sample is None:
                on_difference(to_show(difference, first))
            else:
                firsts.add(str(difference.change), difference.order, difference)
            tell()

        def same(key: bytes) -> None:
            tally.same(key)
            tell()

        def tell() -> None:
            if tally.compared % TELL_EVERY == 0:
                on_progress(tally.compared)

        Comparison(first, second, found, same).run(scope)
        kinds = tally.kinds()
        with second.explained():
            check_something_compared(second, scope, frozenset(one.kind for one in kinds))
    for difference in firsts.items():
        on_difference(to_show(difference, first))
    return DiffReport(*infos, kinds, started, clock.monotonic() - began)


def to_show(difference: Difference, side: Side) -> EntityDifference:
    """The difference as it is shown. `side`: the side whose key is shown."""
    names = difference.names
    before = properties_of(difference.a and difference.a.entity, names)
    after = properties_of(difference.b and difference.b.entity, names)
    changes = []
    for name in names:
        one = PropertyDifference(name, before.get(name), after.get(name))
        changes.append(PropertyChange(name, *one.texts(), values=partial(one.forms)))
    key = text_of(side.partition.absolute(difference.key))
    return EntityDifference(key, difference.change, tuple(changes))
