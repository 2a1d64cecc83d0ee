"""Converts Python values to and from `google.datastore.v1.Value`, and encodes plain entities.

Decodes to exactly what the official client returns and encodes to exactly the message it sends, at
a tenth of its cost. Two tables define the types: `DECODERS` by the message's value type, `ENCODERS`
by Python type. `lazy_entity` and `entity_patch` add the lazy entity to them.
"""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Mapping
from typing import Any

from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import GeoPoint
from proto.datetime_helpers import DatetimeWithNanoseconds  # type: ignore[import-untyped]

from bulkup.core.places import about
from bulkup.datastore.google_private import meanings_of
from bulkup.datastore.keys import key_from_pb, key_text, write_key
from bulkup.datastore.messages import Pb, ValuePb
from bulkup.datastore.unstorable import why_unstorable
from bulkup.datastore.value_flags import exclude, set_meaning

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_PER_DAY = 86_400

# google.protobuf.Timestamp: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z
MIN_TIMESTAMP_S = -62_135_596_800
MAX_TIMESTAMP_S = 253_402_300_799


def decode(pb: Pb) -> Any:
    """The Python value of a Value message.

    Raises ValueError for a value of a type that this client does not know, for a message without a
    value, and for what Python cannot represent.
    """
    try:
        return DECODERS[pb.WhichOneof("value_type")](pb)
    except OverflowError as error:
        raise ValueError(f"out of Python's range: {error}") from error


def _no_value(pb: Pb) -> Any:
    raise ValueError("its value is of a type unknown to this client")


DECODERS: dict[str | None, Callable[[Pb], Any]] = {
    None: _no_value,
    "null_value": lambda pb: None,
    "boolean_value": operator.attrgetter("boolean_value"),
    "integer_value": operator.attrgetter("integer_value"),
    "double_value": operator.attrgetter("double_value"),
    "string_value": operator.attrgetter("string_value"),
    "blob_value": operator.attrgetter("blob_value"),
    "timestamp_value": lambda pb: DatetimeWithNanoseconds.from_timestamp_pb(pb.timestamp_value),
    "key_value": lambda pb: key_from_pb(pb.key_value),
    "geo_point_value": lambda pb: GeoPoint(
        pb.geo_point_value.latitude, pb.geo_point_value.longitude
    ),
    "array_value": lambda pb: [decode(element) for element in pb.array_value.values],
}


PLAIN: Mapping[str | None, type] = {
    "boolean_value": bool,
    "integer_value": int,
    "double_value": float,
    "string_value": str,
    "blob_value": bytes,
}
"""Value types that decode to immutable objects of exactly these Python types."""


def encode(pb: Pb, value: Any) -> None:
    """Write a Python value into an empty Value message.

    Raises ValueError or TypeError, saying why, for what Datastore cannot store.
    """
    encoder = ENCODERS.get(type(value))
    if encoder is None:
        encoder = _encoder_of_subclass(value)
    encoder(pb, value)


def _encoder_of_subclass(value: Any) -> Callable[[Pb, Any], None]:
    # The table is in the official client's order: a bool is an int, an Entity is a dict.
    for type_, encoder in ENCODERS.items():
        if isinstance(value, type_):
            return encoder
    raise ValueError(why_unstorable(value))


def timestamp_parts(value: datetime.datetime) -> tuple[int, int]:
    """Seconds since the epoch and microseconds; a naive datetime counts as UTC.

    Raises ValueError for an instant outside the years 1 to 9999 of UTC.
    """
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    since = value - EPOCH
    seconds = since.days * SECONDS_PER_DAY + since.seconds
    if not MIN_TIMESTAMP_S <= seconds <= MAX_TIMESTAMP_S:
        raise ValueError("in UTC this datetime lies outside the years 1 to 9999")
    return seconds, since.microseconds


def _encode_timestamp(pb: Pb, value: datetime.datetime) -> None:
    seconds, micros = timestamp_parts(value)
    timestamp = pb.timestamp_value
    timestamp.seconds = seconds
    timestamp.nanos = micros * 1000


def _encode_key(pb: Pb, value: Key) -> None:
    key = pb.key_value
    write_key(key, value)
    if not key.path[-1].WhichOneof("id_type"):
        raise ValueError(
            f"{key_text(key)} is incomplete, so it names no entity; put its entity first, and then "
            "store the entity's key, which has an id"
        )


def _encode_bool(pb: Pb, value: bool) -> None:
    pb.boolean_value = value


def _encode_float(pb: Pb, value: float) -> None:
    pb.double_value = value


def _encode_int(pb: Pb, value: int) -> None:
    try:
        pb.integer_value = value
    except ValueError as error:
        raise ValueError(
            "an integer in Datastore has at most 64 bits; use a str, or a float"
        ) from error


def _encode_str(pb: Pb, value: str) -> None:
    try:
        pb.string_value = value
    except UnicodeEncodeError as error:
        raise ValueError(f"a string that UTF-8 cannot encode: {error.reason}") from error


def _encode_bytes(pb: Pb, value: bytes) -> None:
    pb.blob_value = value


def _encode_entity(pb: Pb, value: Entity) -> None:
    nested = pb.entity_value
    nested.SetInParent()
    write_entity(nested, value)


def _encode_dict(pb: Pb, value: dict[str, Any]) -> None:
    nested = pb.entity_value
    nested.SetInParent()
    for name, inner in value.items():
        new_property(nested.properties, name, inner)


def _encode_list(pb: Pb, value: list[Any]) -> None:
    array = pb.array_value
    array.SetInParent()
    add = array.values.add
    for element in value:
        encode(add(), element)


def _encode_geo_point(pb: Pb, value: GeoPoint) -> None:
    pb.geo_point_value.CopyFrom(value.to_protobuf())


def _encode_none(pb: Pb, value: None) -> None:
    pb.null_value = 0


ENCODERS: dict[type, Callable[[Pb, Any], None]] = {
    datetime.datetime: _encode_timestamp,
    Key: _encode_key,
    bool: _encode_bool,
    float: _encode_float,
    int: _encode_int,
    str: _encode_str,
    bytes: _encode_bytes,
    Entity: _encode_entity,
    dict: _encode_dict,
    list: _encode_list,
    GeoPoint: _encode_geo_point,
    type(None): _encode_none,
}


def new_property(properties: Pb, name: Any, value: Any) -> Pb:
    """Add a property to a message's map and return its Value.

    Raises ValueError or TypeError, naming the property, for what cannot be encoded.
    """
    try:
        pb = properties.get_or_create(name)
    except TypeError as error:
        raise TypeError(f"property {name!r}: a property's name is a str") from error
    except UnicodeError as error:
        raise ValueError(f"property {name!r}: its name is not valid UTF-8") from error
    _encode_property(pb, name, value)
    return pb


def new_value(name: str, value: Any) -> Pb:
    """The Value message of a new property. Raises what `new_property` raises."""
    if not name.isascii():
        try:
            name.encode()
        except UnicodeError as error:
            raise ValueError(f"property {name!r}: its name is not valid UTF-8") from error
    pb = ValuePb()
    _encode_property(pb, name, value)
    return pb


def _encode_property(pb: Pb, name: str, value: Any) -> None:
    try:
        encode(pb, value)
    except (TypeError, ValueError) as error:
        raise named(name, error) from None  # the new error repeats the original's message


def named(name: Any, error: Exception) -> Exception:
    """The same TypeError or ValueError with the property's name in front."""
    type_ = TypeError if isinstance(error, TypeError) else ValueError
    return about(type_(f"property {name!r}: {error}"), name)


def write_entity(pb: Pb, entity: Entity) -> None:
    """Fill an empty Entity message, as `entity_to_protobuf` would."""
    if entity.key is not None:
        write_key(pb.key, entity.key)
    properties = pb.properties
    excluded = entity.exclude_from_indexes
    meanings = meanings_of(entity)
    for name, value in entity.items():
        value_pb = new_property(properties, name, value)
        if name in excluded:
            exclude(value_pb)
        if name in meanings:
            meaning, read_value = meanings[name]
            # A meaning belongs to the object it was read with; a new value has none.
            if read_value is value:
                set_meaning(value_pb, meaning)
