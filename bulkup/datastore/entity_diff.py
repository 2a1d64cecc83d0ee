"""Describes what a write would change, in short strings for the dry run."""

from __future__ import annotations

from typing import Any

from bulkup.datastore.entity_changes import UNSTORABLE
from bulkup.datastore.entity_patch import patched
from bulkup.datastore.keys import key_text
from bulkup.datastore.lazy_entity import LazyEntity, read_message
from bulkup.datastore.messages import EntityPb, Pb
from bulkup.datastore.value_codec import decode
from bulkup.datastore.value_flags import is_excluded

TEXT_WIDTH = 80
CONTEXT = 20
"""Characters shown before the first difference of two long strings."""


def describe_changes(
    before: LazyEntity | None, after: Pb
) -> tuple[tuple[str, str | None, str | None], ...]:
    """(name, before, after) of each property that writing `after` changes, sorted by name.

    All properties are new if `before` is None or has another key. A new property is None before,
    a deleted one None after. Each string is one line of at most 80 characters, with control
    characters escaped. For two long values it shows where they differ. Names are not escaped.
    """
    old: Any = {}
    if before is not None and read_message(before).key == after.key:
        old = read_message(before).properties
    new = after.properties
    changes = []
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one is None or other is None or one != other:
            changes.append((name, *describe_values(one, other)))
    return tuple(changes)


def changed_names(before: Pb, after: Pb) -> tuple[str, ...]:
    """The names of the properties in which two Entity messages differ, sorted; NaN equals NaN."""
    old, new = before.properties, after.properties
    return tuple(
        name
        for name in sorted({*old, *new})
        if (name in old) != (name in new)
        or old[name].SerializeToString(deterministic=True)
        != new[name].SerializeToString(deterministic=True)
    )


def unwritten_names(entity: LazyEntity) -> tuple[str, ...]:
    """The names of the properties that were changed in an entity since it was read. Its message
    must not have been patched in place. Empty if Datastore could not store the changes."""
    try:
        patch = patched(entity)
    except UNSTORABLE:
        return ()
    if patch is None:
        return ()
    return changed_names(read_message(entity), EntityPb.FromString(patch.SerializeToString()))


def describe_values(one: Pb | None, other: Pb | None) -> tuple[str | None, str | None]:
    """Describe two differing Value messages as in `describe_changes`; None stands for no value."""
    if one is None or other is None:
        return _cut(_text(one), _text(other))
    before, after = value_text(one), value_text(other)
    notes = ["", ""]
    if is_excluded(one) != is_excluded(other):
        notes = [" (not indexed)" if is_excluded(pb) else " (indexed)" for pb in (one, other)]
    elif before == after:
        notes[1] = " (other index flags or meanings inside)"
    before_cut, after_cut = _cut(before, after, TEXT_WIDTH - max(map(len, notes)))
    return f"{before_cut}{notes[0]}", f"{after_cut}{notes[1]}"


def _text(pb: Pb | None) -> str | None:
    return None if pb is None else value_text(pb)


def value_text(pb: Pb) -> str:
    """Any Value message in one line of printable characters."""
    which = pb.WhichOneof("value_type")
    if which is None:
        return "<unknown type>"
    if which == "null_value":
        return "None"
    if which == "key_value":
        return key_text(pb.key_value)
    if which == "geo_point_value":
        return f"GeoPoint({pb.geo_point_value.latitude!r}, {pb.geo_point_value.longitude!r})"
    if which == "array_value":
        return f"[{', '.join(map(value_text, pb.array_value.values))}]"
    if which == "entity_value":
        properties = sorted(pb.entity_value.properties.items())
        return f"{{{', '.join(f'{name!r}: {value_text(value)}' for name, value in properties)}}}"
    if which == "timestamp_value":
        try:
            return str(decode(pb).isoformat())
        except ValueError:
            return f"<timestamp of {pb.timestamp_value.seconds} s>"
    return repr(getattr(pb, which))


def _cut(
    before: str | None, after: str | None, width: int = TEXT_WIDTH
) -> tuple[str | None, str | None]:
    if before is not None and after is not None and max(len(before), len(after)) > width:
        start = _common_length(before, after) - CONTEXT
        if before != after and start > CONTEXT:
            before, after = f"…{before[start:]}", f"…{after[start:]}"
    return _cut_end(before, width), _cut_end(after, width)


def _common_length(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


def _cut_end(text: str | None, width: int) -> str | None:
    return text if text is None or len(text) <= width else f"{text[: width - 1]}…"
