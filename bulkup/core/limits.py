"""Datastore's limits for entities, checked without a server.

The numbers are the documented limits of Firestore in Datastore mode. The messages are the service's
own if they are known from its emulators. The embedded Datastore refuses writes with them. A run and
a dry run fail with them when a handler puts, so both end the same. This module reads protobuf
messages, but does not import protobuf.
"""

from __future__ import annotations

import math
import re
from typing import Any

from bulkup.core.places import about

MAX_ENTITY_BYTES = 1_048_572
MAX_INDEXED_BYTES = 1500
MAX_MEMBER_BYTES = 1_048_487
"""Maximum of one string or blob that is excluded from indexes, as measured on Google's emulator."""
MAX_NAME_BYTES = 1500
MAX_KEY_ELEMENTS = 100
MAX_NESTING = 20
MAX_INDEXED_VALUES = 20_000
LARGE_BYTES = 2 * MAX_INDEXED_VALUES
"""A smaller entity can neither be too large nor have too many index entries."""

_NAMESPACE = re.compile(r"[A-Za-z\d.\-_]{1,100}", re.ASCII)

_PERCENT, _TEXT, _INDEX_VALUE, _USER, _COMPRESSED, VECTOR = 13, 15, 18, 20, 22, 31
_MEANINGS: dict[str, frozenset[int]] = {
    "string_value": frozenset((1, 2, 3, 4, 5, 6, 8, 10, 11, 12, _TEXT, 17)),
    "integer_value": frozenset((_PERCENT, 29, 30)),
    "blob_value": frozenset((16, _COMPRESSED)),
    "geo_point_value": frozenset((23,)),
    "entity_value": frozenset((_USER,)),
}
"""With a `meaning`, old clients say more about a value than its type does. Meanings are not
documented; these are the ones that Google's emulators accept, each for one type."""
_USER_PROPERTIES = frozenset(
    ("email", "auth_domain", "user_id", "federated_identity", "federated_provider")
)
_FAR_TIME = 7
"""The meaning of an integer that is a time in microseconds that no timestamp can express."""
_MAX_DIMENSIONS = 2048
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799
"""The years 1 to 9999."""


class LimitError(ValueError):
    """A limit is exceeded. `message`: the service's; `hint`: what a user can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message.rstrip('.')}; {hint}" if hint else message)
        self.message = message


# --- names and keys ---


def is_reserved(name: str) -> bool:
    """Whether a name matches `__.*__`, which the service reserves."""
    return len(name) >= 4 and name.startswith("__") and name.endswith("__")


def is_long(name: str) -> bool:
    return len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES


def check_property_name(name: str, *, reserved_ok: bool = False) -> None:
    if not name:
        raise LimitError("The property.name is the empty string.")
    if is_long(name):
        raise LimitError(f"The property.name is longer than {MAX_NAME_BYTES} bytes.")
    if name.startswith("__") and not reserved_ok and is_reserved(name):
        raise LimitError(f'The property.name "{name}" is reserved.')


def check_namespace(namespace: str) -> None:
    if namespace and _NAMESPACE.fullmatch(namespace) is None:
        raise LimitError(f'Illegal string "{namespace[:110]}" in namespace id.')


def check_partition(partition: Any, project: str, database: str) -> None:
    """Refuse a key to write that is not in the target's project and database."""
    found = partition.project_id or project
    if found != project or partition.database_id != database:
        raise LimitError(
            f"mismatched databases within request: {project}/{database or '(default)'} vs. "
            f"{found}/{partition.database_id or '(default)'}",
            "make the key with self.client.key",
        )
    check_namespace(partition.namespace_id)


def check_key(key: Any, *, complete: bool, reserved_ok: bool = False) -> None:
    """Refuse a key that no entity can have.

    `complete=False` allows the last element to have neither id nor name.
    """
    path = key.path
    if not path:
        raise LimitError("The key path must not be empty.")
    if len(path) > MAX_KEY_ELEMENTS:
        raise LimitError(f"Key path is too long. Cannot exceed {MAX_KEY_ELEMENTS} elements.")
    last = len(path) - 1
    for number, element in enumerate(path):
        kind, name = element.kind, element.name
        if not kind:
            raise LimitError("The kind is the empty string.")
        if is_long(kind):
            raise LimitError(f"The kind is longer than {MAX_NAME_BYTES} bytes.")
        if kind.startswith("__") and not reserved_ok and is_reserved(kind):
            raise LimitError(f'The kind "{kind}" is reserved.')
        which = element.WhichOneof("id_type")
        if which is None:
            if complete or number != last:
                raise LimitError(f"Key path element must not be incomplete: {path_text(path)}")
        elif which == "id":
            if element.id == 0:
                raise LimitError("Key path id is invalid. Must not be zero.")
        elif not name:
            raise LimitError("The key path element name is the empty string.")
        else:
            if is_long(name):
                raise LimitError(
                    f"The key path element name is longer than {MAX_NAME_BYTES} bytes."
                )
            if name.startswith("__") and not reserved_ok and is_reserved(name):
                raise LimitError(f'The key path element name "{name}" is reserved.')


def check_key_to_write(key: Any, place: tuple[str, str] | None, *, complete: bool) -> None:
    """Refuse a key that cannot be written. `place`: the target's project and database, if known."""
    check_key(key, complete=complete)
    partition = key.partition_id
    if place is not None:
        check_partition(partition, *place)
    if is_reserved(partition.namespace_id):
        raise LimitError(f'The namespace id "{partition.namespace_id}" is reserved.')


def check_key_value(key: Any, *, complete: bool = True) -> None:
    """Refuse a key value that no entity can have, here or elsewhere."""
    check_key(key, complete=complete, reserved_ok=True)
    check_namespace(key.partition_id.namespace_id)


def path_text(path: Any) -> str:
    """A key's path as messages show it."""
    parts = []
    for element in path:
        ident = repr(element.name) if element.name else str(element.id) if element.id else "?"
        parts.append(f"{element.kind}: {ident}")
    return "[" + ", ".join(parts)[:300] + "]"


# --- values ---


def too_long(path: str, limit: int = MAX_INDEXED_BYTES) -> LimitError:
    *outer, name = path.split(".")
    hint = "make it shorter, or store it in Cloud Storage"
    if limit == MAX_INDEXED_BYTES:
        where = "the nested Entity's" if outer else "the entity's"
        hint = f'make it shorter, or add "{name}" to {where} exclude_from_indexes'
    return LimitError(f'The value of property "{path}" is longer than {limit} bytes.', hint)


def nested_too_deep() -> LimitError:
    return LimitError(f"At most {MAX_NESTING} nested entity values are supported.")


def no_value(path: str) -> LimitError:
    return LimitError(f'The value "{path}" does not contain a value.')


def excluded_array(path: str) -> LimitError:
    return LimitError(
        "Exclude from indexes cannot be set on a list value, only on its elements: "
        f'property "{path}"'
    )


def array_in_array(path: str) -> LimitError:
    return LimitError(
        f'The value of property "{path}" is an array that contains an array.',
        "put the inner one into an Entity",
    )


def too_many(entries: int) -> LimitError:
    return LimitError(
        f"Too many indexed properties: {entries} index entries, the limit for an entity is "
        f"{MAX_INDEXED_VALUES}",
        "exclude properties from indexes that no query needs",
    )


def check_entity_size(size: int) -> None:
    if size > MAX_ENTITY_BYTES:
        raise LimitError(
            f"The entity is too big: it has {size} bytes, the maximum entity size is "
            f"{MAX_ENTITY_BYTES} bytes."
        )


def check_range(path: str, value: Any, which: str) -> None:
    """Refuse a timestamp, a point or a key that is out of range."""
    if which == "timestamp_value":
        stamp = value.timestamp_value
        if not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND or not 0 <= stamp.nanos < 10**9:
            raise LimitError(f'The timestamp of property "{path}" is not in the years 1 to 9999.')
    elif which == "geo_point_value":
        point = value.geo_point_value
        if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
            raise LimitError(
                "Geo point outside permitted range: latitude -90.0 to 90.0, longitude -180.0 to "
                f'180.0: property "{path}"'
            )
    elif which == "key_value":
        check_key_value(value.key_value)


def check_meaning(path: str, value: Any, *, projected: bool = False) -> None:
    """Refuse a meaning that the value cannot have.

    `projected`: the meaning may be that of values that a projection returned.
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
        raise LimitError(f'The value of property "{path}" cannot have the meaning {meaning}.')


def _check_vector(path: str, value: Any) -> None:
    numbers = value.array_value.values
    if not value.exclude_from_indexes:
        raise LimitError(f'A vector must be excluded from indexes: property "{path}"')
    if not 0 < len(numbers) <= _MAX_DIMENSIONS:
        raise LimitError(f'A vector must have 1 to {_MAX_DIMENSIONS} dimensions: property "{path}"')
    for one in numbers:
        if one.WhichOneof("value_type") != "double_value" or math.isnan(one.double_value):
            raise LimitError(f'A vector must have doubles only, and no NaN: property "{path}"')


def check_length(path: str, value: Any, which: str) -> None:
    """Refuse a string or blob that is too long. `which`: which of the two it is."""
    content = getattr(value, which)
    limit = MAX_MEMBER_BYTES if value.exclude_from_indexes else MAX_INDEXED_BYTES
    if len(content) > limit // 4:
        size = len(content.encode() if isinstance(content, str) else content)
        if size > limit:
            raise too_long(path, limit)


# --- entities ---


def check_properties(entity: Any, prefix: str = "", depth: int = 0) -> None:
    """Refuse an Entity message with a name or value that cannot be stored. Checks each of them, but
    not the entity as a whole: see `check_whole`."""
    if depth > MAX_NESTING:
        raise nested_too_deep()
    for name, value in entity.properties.items():
        try:
            check_property_name(name)
            check_value(prefix + name, value, depth)
        except LimitError as error:
            about(error, name)  # the outermost name is noted last
            raise


def check_value(path: str, value: Any, depth: int = 0) -> None:
    """Refuse a Value message that cannot be stored. Meanings, and types that this client does not
    know, are left to the server: what was read is written back unchanged."""
    which = value.WhichOneof("value_type")
    if which in ("string_value", "blob_value"):
        check_length(path, value, which)
    elif which == "entity_value":
        inner = value.entity_value
        check_properties(inner, path + ".", depth + 1)
        if inner.HasField("key"):
            check_key_value(inner.key, complete=False)
    elif which == "array_value":
        _check_array(path, value, depth)
    elif which == "key_value":
        check_key_value(value.key_value, complete=False)  # a new key was checked to be complete
    elif which is not None:
        check_range(path, value, which)


def _check_array(path: str, value: Any, depth: int) -> None:
    for element in value.array_value.values:
        if element.WhichOneof("value_type") == "array_value":
            raise array_in_array(path)
        check_value(path, element, depth)


def check_whole(entity: Any, size: int) -> None:
    """Refuse an Entity message that is too large or has too many index entries. Needed only for
    entities of more than LARGE_BYTES."""
    check_entity_size(size)
    entries: set[tuple[str, Any]] = set()
    _count(entity, "", entries)
    if len(entries) > MAX_INDEXED_VALUES:
        raise too_many(len(entries))


def _count(entity: Any, prefix: str, entries: set[tuple[str, Any]]) -> None:
    for name, value in entity.properties.items():
        if value.exclude_from_indexes:
            continue
        path = prefix + name
        is_array = value.WhichOneof("value_type") == "array_value"
        for one in value.array_value.values if is_array else (value,):
            if one.exclude_from_indexes:
                continue
            if one.WhichOneof("value_type") == "entity_value":
                inner = one.entity_value
                _count(inner, path + ".", entries)
                if inner.key.path:
                    entries.add((path + ".__key__", inner.key.SerializeToString()))
            else:
                entries.add((path, one.SerializeToString()))
