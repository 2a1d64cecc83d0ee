"""Property transforms, as the API reference of PropertyTransform describes them."""

from __future__ import annotations

import math
from typing import Any

from bulkup.core.limits import is_reserved
from bulkup.local import messages as m
from bulkup.local.encoding import encode_value
from bulkup.local.masks import split_path
from bulkup.local.status import invalid

_INT64_MAX = (1 << 63) - 1
_INT64_MIN = -(1 << 63)
_NUMERIC = ("integer_value", "double_value")


def apply_transforms(entity: Any, transforms: Any, now: int) -> list[Any]:
    """Apply transforms in order, in place; returns the result of each. `now` is in microseconds.

    Raises INVALID_ARGUMENT for a transform that is not valid.
    """
    return [_apply(entity, transform, now) for transform in transforms]


def _apply(entity: Any, transform: Any, now: int) -> Any:
    which = transform.WhichOneof("transform_type")
    if which is None:
        raise invalid("A property transform must have a transform type.")
    value = _place(entity, transform.property)
    excluded = value.exclude_from_indexes
    if which == "set_to_server_value":
        if transform.set_to_server_value != m.PropertyTransform.REQUEST_TIME:
            raise invalid("The server value of a property transform must be REQUEST_TIME.")
        millis = now // 1000
        value.Clear()
        value.timestamp_value.seconds = millis // 1000
        value.timestamp_value.nanos = millis % 1000 * 1_000_000
    elif which in ("increment", "maximum", "minimum"):
        operand = getattr(transform, which)
        if operand.WhichOneof("value_type") not in _NUMERIC:
            raise invalid(f"The operand of {which} must be an integer or a double.")
        _arithmetic(which, value, operand)
    else:
        elements = getattr(transform, which).values
        if any(element.WhichOneof("value_type") == "array_value" for element in elements):
            raise invalid(f"The elements of {which} must not be arrays.")
        if value.WhichOneof("value_type") != "array_value":
            value.Clear()
            value.array_value.SetInParent()
        _array(which, value.array_value, elements)
        return m.Value(null_value=0)
    if excluded:
        value.exclude_from_indexes = True
    result = m.Value()
    result.CopyFrom(value)
    return result


def _place(entity: Any, text: str) -> Any:
    """The value at a property path. Entities along the path are created."""
    path = split_path(text)
    if any(map(is_reserved, path)):
        raise invalid(f'The property transform has a reserved name: "{text[:100]}"')
    for name in path[:-1]:
        value = entity.properties[name]
        if value.WhichOneof("value_type") != "entity_value":
            value.Clear()
            value.entity_value.SetInParent()
        entity = value.entity_value
    return entity.properties[path[-1]]


def _arithmetic(which: str, value: Any, operand: Any) -> None:
    kind, other = value.WhichOneof("value_type"), operand.WhichOneof("value_type")
    if kind not in _NUMERIC:
        excluded = value.exclude_from_indexes
        value.CopyFrom(operand)
        value.exclude_from_indexes = excluded
        return
    stored, change = getattr(value, kind), getattr(operand, other)
    if which == "increment":
        if kind == other == "integer_value":
            value.integer_value = max(_INT64_MIN, min(_INT64_MAX, stored + change))
        else:
            value.double_value = float(stored) + float(change)
        return
    if math.isnan(stored) or math.isnan(change):
        value.double_value = math.nan
    elif (change > stored) if which == "maximum" else (change < stored):
        setattr(value, other, change)


def _same(one: Any, other: Any) -> bool:
    """Equal as array elements: numbers by value, NaN equals NaN."""
    kind, other_kind = one.WhichOneof("value_type"), other.WhichOneof("value_type")
    if kind in _NUMERIC and other_kind in _NUMERIC:
        a, b = getattr(one, kind), getattr(other, other_kind)
        return bool(a == b or (a != a and b != b))
    if kind != other_kind:
        return False
    if kind == "entity_value":
        return bool(one.entity_value == other.entity_value)
    return encode_value(one) == encode_value(other)


def _array(which: str, array: Any, elements: Any) -> None:
    if which == "append_missing_elements":
        for element in elements:
            if not any(_same(element, present) for present in array.values):
                array.values.append(element)
    else:
        kept = [
            present
            for present in array.values
            if not any(_same(present, element) for element in elements)
        ]
        copies = m.Value()
        copies.array_value.values.extend(kept)
        array.CopyFrom(copies.array_value)
