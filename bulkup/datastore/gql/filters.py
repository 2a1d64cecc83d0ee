"""Converts conditions to Filter messages, and back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from google.cloud.datastore import Key

from bulkup.core.errors import UsageError
from bulkup.datastore.gql.conditions import (
    COMPARISONS,
    Comparison,
    Condition,
    Junction,
    KeyLiteral,
    Literal,
    Unwritable,
    Value,
    joined,
)
from bulkup.datastore.messages import AND, OR, Operator, Pb
from bulkup.datastore.value_codec import decode, encode

_OPERATORS = {name: sign for sign, name in COMPARISONS.items()}


class Place(NamedTuple):
    """Where a query is run. It supplies the parts that a key leaves open."""

    project: str
    database: str = ""
    namespace: str = ""


def write_filter(pb: Pb, condition: Condition, place: Place) -> None:
    """Fill an empty Filter message. Raises UsageError for a value that no message can hold."""
    if isinstance(condition, Junction):
        composite = pb.composite_filter
        composite.op = AND if condition.operator == "AND" else OR
        for part in condition.parts:
            write_filter(composite.filters.add(), part, place)
        return
    one = pb.property_filter
    one.property.name = condition.name
    one.op = Operator[COMPARISONS[condition.operator]]
    try:
        encode(one.value, _plain(condition.value, place))
    except ValueError as error:
        raise UsageError(f"{condition.name} is compared with no value: {error}") from error


def _plain(value: Value, place: Place) -> Any:
    if isinstance(value, tuple):
        return [_plain(one, place) for one in value]
    return key_in(value, place) if isinstance(value, KeyLiteral) else value


def key_in(key: KeyLiteral, place: Place) -> Key:
    namespace = place.namespace if key.namespace is None else key.namespace
    return Key(
        *(part for element in key.path for part in element),
        project=key.project or place.project,
        database=(place.database if key.database is None else key.database) or None,
        namespace=namespace or None,
    )


def condition_of(pb: Pb, place: Place) -> Condition | None:
    """The condition in a Filter message; None if the message is empty."""
    kind = pb.WhichOneof("filter_type")
    if kind == "composite_filter":
        composite = pb.composite_filter
        parts = [condition_of(one, place) for one in composite.filters]
        there = tuple(part for part in parts if part is not None)
        return joined("AND" if composite.op == AND else "OR", there) if there else None
    if kind is None:
        return None
    one = pb.property_filter
    return Comparison(
        one.property.name, _OPERATORS.get(Operator(one.op).name, "?"), _value(one.value, place)
    )


def _value(pb: Pb, place: Place) -> Value:
    if pb.WhichOneof("value_type") == "array_value":
        return tuple(_literal(one, place) for one in pb.array_value.values)
    return _literal(pb, place)


def _literal(pb: Pb, place: Place) -> Literal:
    kind = pb.WhichOneof("value_type")
    if kind == "key_value":
        return _key_literal(pb.key_value, place)
    if kind == "double_value" and not math.isfinite(pb.double_value):
        return Unwritable(f"<{pb.double_value}>")
    if kind in ("geo_point_value", "entity_value", "array_value", None):
        name = str(kind or "nothing").removesuffix("_value").replace("_", " ")
        return Unwritable(f"<{name}>")
    try:
        value: Literal = decode(pb)
    except ValueError:
        return Unwritable(f"<{kind}>")
    return value


def _key_literal(pb: Pb, place: Place) -> KeyLiteral:
    at = pb.partition_id
    path = tuple(
        (element.kind, element.name if element.WhichOneof("id_type") == "name" else element.id)
        for element in pb.path
    )
    return KeyLiteral(
        path,
        None if at.project_id == place.project else at.project_id,
        None if at.namespace_id == place.namespace else at.namespace_id,
        None if at.database_id == place.database else at.database_id,
    )
