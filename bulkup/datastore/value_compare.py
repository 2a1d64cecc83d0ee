"""Checks whether a Python value still equals a Value message."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from math import copysign
from typing import Any

from google.cloud.datastore import Key
from google.cloud.datastore.helpers import GeoPoint

from bulkup.datastore.keys import key_from_pb
from bulkup.datastore.messages import Pb
from bulkup.datastore.value_codec import timestamp_parts


def same(pb: Pb, value: Any) -> bool:
    """Compare strictly: 1 is not True, -0.0 is not 0.0, and NaN is NaN.

    Timestamps are compared to the microsecond, which is all that can be written. Entities and
    arrays are never the same here; `entity_patch` compares them.
    """
    compare = _SAME.get(pb.WhichOneof("value_type"))
    return compare is not None and compare(pb, value)


def _same_float(one: float, other: float) -> bool:
    if one != other:
        return one != one and other != other
    return copysign(1.0, one) == copysign(1.0, other)


def _same_timestamp(pb: Pb, value: Any) -> bool:
    if not isinstance(value, datetime.datetime):
        return False
    read = pb.timestamp_value
    return timestamp_parts(value) == (read.seconds, read.nanos // 1000)


def _same_geo_point(pb: Pb, value: Any) -> bool:
    if not isinstance(value, GeoPoint):
        return False
    read = pb.geo_point_value
    return all(
        _same_float(one, 0.0 if other is None else other)
        for one, other in ((read.latitude, value.latitude), (read.longitude, value.longitude))
    )


def _same_key(pb: Pb, value: Any) -> bool:
    if not isinstance(value, Key):
        return False
    try:
        read = key_from_pb(pb.key_value)
    except ValueError:  # an unreadable key has not been read, so the value is a new one
        return False
    # Not `==`, because an incomplete key never equals another.
    return _key_parts(read) == _key_parts(value)


def _key_parts(key: Key) -> tuple[Any, ...]:
    return key.flat_path, key.project, key.database or None, key.namespace or None


_SAME: Mapping[str, Callable[[Pb, Any], bool]] = {
    "null_value": lambda pb, value: value is None,
    "boolean_value": lambda pb, value: value is pb.boolean_value,
    "integer_value": lambda pb, value: (
        isinstance(value, int) and not isinstance(value, bool) and value == pb.integer_value
    ),
    "double_value": lambda pb, value: (
        isinstance(value, float) and _same_float(pb.double_value, value)
    ),
    "string_value": lambda pb, value: isinstance(value, str) and pb.string_value == value,
    "blob_value": lambda pb, value: isinstance(value, bytes) and pb.blob_value == value,
    "timestamp_value": _same_timestamp,
    "key_value": _same_key,
    "geo_point_value": _same_geo_point,
}
