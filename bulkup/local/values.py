"""What is required of a single value, stored or in a filter.

With the `meaning` of a value, old clients say more about it than its type: that it is compressed,
an email address, a user. Meanings are not documented. These are the ones that Google's emulators
accept, each with one type.
"""

from __future__ import annotations

import math
from typing import Any

from bulkup.local.limits import check_key_value
from bulkup.local.status import invalid

_PERCENT, _TEXT, _INDEX_VALUE, _USER, _COMPRESSED, VECTOR = 13, 15, 18, 20, 22, 31
_MEANINGS: dict[str, frozenset[int]] = {
    "string_value": frozenset((1, 2, 3, 4, 5, 6, 8, 10, 11, 12, _TEXT, 17)),
    "integer_value": frozenset((_PERCENT, 29, 30)),
    "blob_value": frozenset((16, _COMPRESSED)),
    "geo_point_value": frozenset((23,)),
    "entity_value": frozenset((_USER,)),
}
_USER_PROPERTIES = frozenset(
    ("email", "auth_domain", "user_id", "federated_identity", "federated_provider")
)
_FAR_TIME = 7
"""Of an integer: a time in microseconds that no timestamp can express."""
_MAX_DIMENSIONS = 2048
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799
"""The years 1 to 9999."""


def check_range(path: str, value: Any, which: str) -> None:
    """Raise INVALID_ARGUMENT for a timestamp, a point or a key that is out of range."""
    if which == "timestamp_value":
        stamp = value.timestamp_value
        if not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND or not 0 <= stamp.nanos < 10**9:
            raise invalid(f'The timestamp of property "{path}" is not in the years 1 to 9999.')
    elif which == "geo_point_value":
        point = value.geo_point_value
        if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
            raise invalid(
                "Geo point outside permitted range: latitude -90.0 to 90.0, longitude -180.0 to "
                f'180.0: property "{path}"'
            )
    elif which == "key_value":
        check_key_value(value.key_value)


def check_meaning(path: str, value: Any, *, projected: bool = False) -> None:
    """Raise INVALID_ARGUMENT for a meaning that the value cannot have.

    `projected`: the meaning may be the one of values that a projection returned.
    """
    meaning, which = value.meaning, value.WhichOneof("value_type") or ""
    if meaning == _INDEX_VALUE and projected:
        return
    if meaning == VECTOR and which == "array_value":
        _check_vector(path, value)
        return
    fine = meaning in _MEANINGS.get(which, ())
    if meaning in (_TEXT, _COMPRESSED):
        fine = fine and value.exclude_from_indexes
    elif fine and meaning == _PERCENT:
        fine = 0 <= value.integer_value <= 100
    elif meaning == _FAR_TIME and which == "integer_value":
        fine = not _FIRST_SECOND <= value.integer_value // 10**6 <= _LAST_SECOND
    elif fine and meaning == _USER:
        user = value.entity_value.properties
        fine = user.keys() <= _USER_PROPERTIES
        fine = fine and all(user[name].exclude_from_indexes for name in user)
    if not fine:
        raise invalid(f'The value of property "{path}" cannot have the meaning {meaning}.')


def _check_vector(path: str, value: Any) -> None:
    numbers = value.array_value.values
    if not value.exclude_from_indexes:
        raise invalid(f'A vector must be excluded from indexes: property "{path}"')
    if not 0 < len(numbers) <= _MAX_DIMENSIONS:
        raise invalid(f'A vector must have 1 to {_MAX_DIMENSIONS} dimensions: property "{path}"')
    for one in numbers:
        if one.WhichOneof("value_type") != "double_value" or math.isnan(one.double_value):
            raise invalid(f'A vector must have doubles only, and no NaN: property "{path}"')
