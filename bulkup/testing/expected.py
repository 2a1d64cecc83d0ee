"""Explains in pytest how the entities that a run wrote differ from those that a test expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from google.cloud.datastore import Entity

from bulkup.core.meant import hint
from bulkup.datastore.keys import key_text
from bulkup.report.text import VALUE_LIMIT, clean
from bulkup.testing.results import EntityList


def explain(left: Any, right: Any) -> list[str] | None:
    """The lines for `assert left == right`; None if neither is what a run has written."""
    if isinstance(left, EntityList) and isinstance(right, (list, tuple)):
        there, expected = left, right
    elif isinstance(right, EntityList) and isinstance(left, (list, tuple)):
        there, expected = right, left
    else:
        return None
    if isinstance(expected, tuple):
        return ["a list of entities is never equal to a tuple; write [...]"]
    lines = [f"{_entities(len(there))} of the run, {len(expected)} expected"]
    for at, (one, wanted) in enumerate(zip_longest(there, expected)):
        lines += _pair(at, one, wanted)
    return [*lines, f"The run: {there.result.summary()}"]


def _entities(count: int) -> str:
    return "1 entity" if count == 1 else f"{count} entities"


def _pair(at: int, one: Entity | None, wanted: Any) -> Iterator[str]:
    if one is None:
        yield f"[{at}] is missing: {_value(wanted)}"
        return
    key = clean(key_text(one.key)) if one.key is not None else ""
    if wanted is None:
        yield f"[{at}] {key} is not expected: {_value(dict(one))}"
    elif one == wanted:
        return
    elif not isinstance(wanted, Mapping):
        yield f"[{at}] {key} is compared with {_value(wanted)}; give a dictionary or an Entity"
    else:
        yield f"[{at}] {key}:"
        yield from _properties(one, wanted)


def _properties(one: Entity, wanted: Mapping[str, Any]) -> Iterator[str]:
    differs = False
    for name in sorted({*one, *wanted}, key=str):
        if name not in one:
            others = [other for other in one if other not in wanted]
            meant = hint(str(name), others)
            yield f"    {clean(str(name))}: {_value(wanted[name])} is missing{meant}"
        elif name not in wanted:
            yield f"    {clean(name)}: {_value(one[name])} is not expected"
        elif one[name] != wanted[name]:
            yield f"    {clean(name)}: {_value(one[name])}, expected {_value(wanted[name])}"
        else:
            continue
        differs = True
    if not differs and isinstance(wanted, Entity):
        if one.key != wanted.key:
            yield f"    the key: {one.key!r}, expected {wanted.key!r}"
        else:
            yield "    the same values, with other index flags (exclude_from_indexes) or meanings"


def _value(value: Any) -> str:
    return clean(repr(value), VALUE_LIMIT)
