"""A query's filter as alternatives: an OR of ANDs, ready for SQL.

In one alternative, a property may have a set of required values (`equal`; any element of an array
matches) and a set of intervals (`ranges`; one element must be inside, so `[0, 5]` does not match
`a > 1 AND a < 3`, as documented). The key has intervals only.

`!=` and NOT_IN become intervals. They match all other values of any type, including null, but no
entity without the property. IN and OR expand to alternatives, at most 30, as documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bulkup.core.limits import MAX_INDEXED_BYTES, too_long
from bulkup.local import messages as m
from bulkup.local.encoding import BYTES, encode_path, encode_value, path_end
from bulkup.local.intervals import (
    EVERYTHING,
    HIGHEST,
    LOWEST,
    Interval,
    Intervals,
    after,
    intersect,
    normalize,
    point,
    without,
)
from bulkup.local.limits import (
    MAX_DISJUNCTIONS,
    MAX_NOT_IN_VALUES,
    check_meaning,
    check_property_name,
    check_range,
    refused,
)
from bulkup.local.status import invalid

KEY = "__key__"
_F = m.PropertyFilter
_COMPARISONS: dict[int, Callable[[bytes], Interval]] = {
    _F.EQUAL: point,
    _F.LESS_THAN: lambda value: (LOWEST, value),
    _F.LESS_THAN_OR_EQUAL: lambda value: (LOWEST, after(value)),
    _F.GREATER_THAN: lambda value: (after(value), HIGHEST),
    _F.GREATER_THAN_OR_EQUAL: lambda value: (value, HIGHEST),
}
EQUALITIES = frozenset((_F.EQUAL, _F.IN, _F.HAS_ANCESTOR))
ANCESTOR: int = _F.HAS_ANCESTOR
PathOf = Callable[[Any], bytes]


@dataclass
class Alternative:
    """One AND of filters."""

    equal: set[tuple[str, bytes]] = field(default_factory=set)
    ranges: dict[str, Intervals] = field(default_factory=dict)
    paths: Intervals = EVERYTHING
    ancestors: frozenset[bytes] = frozenset()
    """The ancestors that HAS_ANCESTOR requires; `paths` also covers them."""

    def possible(self) -> bool:
        return bool(self.paths) and all(self.ranges.values())

    def merge(self, other: Alternative) -> Alternative:
        both = Alternative(self.equal | other.equal, dict(self.ranges))
        for prop, intervals in other.ranges.items():
            both.ranges[prop] = intersect(both.ranges.get(prop, EVERYTHING), intervals)
        both.paths = intersect(self.paths, other.paths)
        both.ancestors = self.ancestors | other.ancestors
        return both


def alternatives(filter_: Any, path_of: PathOf) -> list[Alternative]:
    """The alternatives of a `Filter`; for None, one that accepts everything.

    `path_of` encodes the path of a key in the filter, or raises INVALID_ARGUMENT for a key that is
    not in the query's partition.
    """
    if filter_ is None:
        return [Alternative()]
    _check_combination(filter_)
    found = _expand(filter_, path_of)
    ancestors = {one.ancestors for one in found}
    if len(ancestors) > 1 or any(len(one) > 1 for one in ancestors):
        raise invalid("All disjunctions must have a common and unique ancestor constraint.")
    return _join([one for one in found if one.possible()])


def comparisons(filter_: Any) -> Iterator[tuple[str, int]]:
    """The (property, operator) of every property filter in a filter."""
    which = filter_.WhichOneof("filter_type")
    if which == "composite_filter":
        for one in filter_.composite_filter.filters:
            yield from comparisons(one)
    elif which == "property_filter":
        yield filter_.property_filter.property.name, filter_.property_filter.op


def _expand(filter_: Any, path_of: PathOf) -> list[Alternative]:
    which = filter_.WhichOneof("filter_type")
    if which is None:
        raise invalid("a filter must have exactly one of its fields set")
    if which == "property_filter":
        return _property(filter_.property_filter, path_of)
    composite = filter_.composite_filter
    if not composite.filters:
        raise invalid("A composite filter must have at least one sub-filter.")
    parts = [_expand(one, path_of) for one in composite.filters]
    if composite.op == m.CompositeFilter.OR:
        found = [one for part in parts for one in part]
    elif composite.op == m.CompositeFilter.AND:
        found = [Alternative()]
        for part in parts:
            if len(found) * len(part) > 10 * MAX_DISJUNCTIONS:
                raise _too_many(len(found) * len(part))
            found = [one.merge(other) for one in found for other in part]
    else:
        raise invalid("A composite filter must have an operator: AND or OR.")
    if len(found) > MAX_DISJUNCTIONS:
        raise _too_many(len(found))
    return found


def _too_many(count: int) -> Exception:
    return invalid(
        f"The query has {count} alternatives (its ORs and INs multiplied out), "
        f"at most {MAX_DISJUNCTIONS} are supported."
    )


def _property(filter_: Any, path_of: PathOf) -> list[Alternative]:
    name, op = filter_.property.name, filter_.op
    check_property_name(name, reserved_ok=True)
    if op == _F.HAS_ANCESTOR:
        if name != KEY:
            raise invalid("HAS_ANCESTOR is a filter on __key__ only.")
        ancestor = path_of(filter_.value)
        inside = ((ancestor, path_end(ancestor)),)
        return [Alternative(paths=inside, ancestors=frozenset((ancestor,)))]
    encode = path_of if name == KEY else partial(_encoded, name)
    if op in (_F.IN, _F.NOT_IN):
        values = _list(filter_, name, encode)
        if op == _F.NOT_IN:
            return [_range(name, without(values))]
        return [_equal(name, value) for value in values]
    value = encode(filter_.value)
    if op == _F.NOT_EQUAL:
        return [_range(name, without([value]))]
    if op == _F.EQUAL:
        return [_equal(name, value)]
    if op not in _COMPARISONS:
        raise invalid(f"Unknown operator of the filter on {name[:100]!r}.")
    return [_range(name, normalize([_COMPARISONS[op](value)]))]


def _equal(name: str, value: bytes) -> Alternative:
    if name == KEY:
        return Alternative(paths=(point(value),))
    return Alternative(equal={(name, value)})


def _range(name: str, intervals: Intervals) -> Alternative:
    return Alternative(paths=intervals) if name == KEY else Alternative(ranges={name: intervals})


def _list(filter_: Any, name: str, encode: Callable[[Any], bytes]) -> list[bytes]:
    text = m.PropertyFilter.Operator.Name(filter_.op)
    _check_indexed(filter_.value)
    values = filter_.value.array_value.values
    if not values:
        raise invalid(f"{text} requires an non-empty ArrayValue.")
    limit = MAX_DISJUNCTIONS if filter_.op == _F.IN else MAX_NOT_IN_VALUES
    if len(values) > limit:
        raise invalid(
            f"{text} supports up to {limit} values. There are {len(values)} values in the {text} "
            f"filter on {name[:100]!r} in your query."
        )
    return sorted({encode(value) for value in values})


def _check_indexed(value: Any) -> None:
    if value.exclude_from_indexes:
        raise invalid("a filter value must be indexed")


def _encoded(name: str, value: Any) -> bytes:
    which = value.WhichOneof("value_type")
    if which is None:
        raise invalid("A property filter must have a value.")
    if value.meaning:
        check_meaning(name, value, projected=True)
    _check_indexed(value)
    encoded = encode_value(value)
    if encoded is None:
        raise invalid(f"{'A list' if which == 'array_value' else 'An entity'} value is not allowed")
    check_range(name, value, which)
    if len(encoded) > MAX_INDEXED_BYTES + 1 and encoded[:1] == BYTES:
        raise refused(too_long(name))
    return encoded


def key_path(value: Any) -> bytes:
    """The encoded path of a key value in a filter on `__key__`."""
    if value.WhichOneof("value_type") != "key_value":
        raise invalid("__key__ filter value must be a Key")
    _check_indexed(value)
    path = value.key_value.path
    if not path:
        raise invalid("The key of a filter must not be empty.")
    for element in path:
        if not element.kind or not (element.id or element.name):
            raise invalid("The key of a filter must be complete.")
    return encode_path(path)


def _check_combination(filter_: Any) -> None:
    """Raise INVALID_ARGUMENT for operators that exclude each other, as documented."""
    ops = [op for _, op in comparisons(filter_)]
    if ops.count(_F.NOT_EQUAL) + ops.count(_F.NOT_IN) > 1:
        raise invalid("Only a single 'NOT_EQUAL' or 'NOT_IN' is allowed per query.")
    if _F.NOT_IN in ops and (_has_or(filter_) or _F.IN in ops):
        raise invalid("'NOT_IN' cannot be used in the same query with 'IN' or 'OR'.")


def _has_or(filter_: Any) -> bool:
    composite = filter_.composite_filter
    return composite.op == m.CompositeFilter.OR or any(map(_has_or, composite.filters))


def _join(found: list[Alternative]) -> list[Alternative]:
    """Merge alternatives that differ only in the intervals of one property, or of the key.

    `a < 1 OR a > 5` is then one range scan that finds each entity once.
    """
    out: list[Alternative] = []
    for one in found:
        for place, other in enumerate(out):
            joined = _joined(one, other)
            if joined is not None:
                out[place] = joined
                break
        else:
            out.append(one)
    return out


def _joined(one: Alternative, other: Alternative) -> Alternative | None:
    if one.equal != other.equal or one.ranges.keys() != other.ranges.keys():
        return None
    differ = [prop for prop in one.ranges if one.ranges[prop] != other.ranges[prop]]
    if not differ:
        paths = normalize(one.paths + other.paths)
        return Alternative(one.equal, one.ranges, paths, one.ancestors)
    if len(differ) > 1 or one.paths != other.paths:
        return None
    ranges = dict(one.ranges)
    ranges[differ[0]] = normalize(one.ranges[differ[0]] + other.ranges[differ[0]])
    return Alternative(one.equal, ranges, one.paths, one.ancestors)
