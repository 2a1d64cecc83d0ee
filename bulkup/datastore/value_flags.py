"""What a Value message says in addition to its value: the index flag and the meaning."""

from __future__ import annotations

from itertools import repeat
from typing import Any

from bulkup.datastore.messages import Pb


def exclude(pb: Pb) -> None:
    """Exclude a freshly encoded value from indexes.

    Datastore allows the flag only on an array's elements, so an empty array cannot have it.
    """
    if pb.HasField("array_value"):
        for element in pb.array_value.values:
            element.exclude_from_indexes = True
    else:
        pb.exclude_from_indexes = True


def is_excluded(pb: Pb) -> bool:
    """Whether the official client lists this value's property in `exclude_from_indexes`.

    An array is listed if all its elements are excluded. One with mixed flags, which the official
    client refuses to read, is not listed.
    """
    if pb.HasField("array_value"):
        elements = pb.array_value.values
        if elements:
            return all(element.exclude_from_indexes for element in elements)
    return bool(pb.exclude_from_indexes)


def meaning_of(pb: Pb) -> Any:
    """The meaning as the official client keeps it: an int, (of array, of elements), or None."""
    meaning = pb.meaning or None
    if not pb.HasField("array_value"):
        return meaning
    of_elements = [element.meaning or None for element in pb.array_value.values]
    if not any(of_elements):
        return None if meaning is None else (meaning, None)
    return meaning, of_elements


def set_meaning(pb: Pb, meaning: Any) -> None:
    """Give a value its meaning, in any form that the official client accepts."""
    if meaning is None:
        return
    if not pb.HasField("array_value"):
        pb.meaning = meaning
        return
    if isinstance(meaning, tuple):
        of_array, of_elements = meaning
    else:  # the form of official clients before 2.20.2
        of_array = None
        of_elements = meaning if isinstance(meaning, list) else repeat(meaning)
    if of_array is not None:
        pb.meaning = of_array
    for element, of_element in zip(pb.array_value.values, of_elements or (), strict=False):
        if of_element is not None:
            element.meaning = of_element
