"""The Python types of values, as they are written in an annotation."""

from __future__ import annotations

from collections.abc import Iterable

from bulkup.datastore.messages import Pb

_TYPES = {
    "null_value": "None",
    "boolean_value": "bool",
    "integer_value": "int",
    "double_value": "float",
    "timestamp_value": "datetime",
    "key_value": "Key",
    "string_value": "str",
    "blob_value": "bytes",
    "geo_point_value": "GeoPoint",
    "entity_value": "dict[str, Any]",
}
_UNKNOWN = "Any"
_EMPTY = "list[Any]"


def type_text(value: Pb) -> str:
    """The type of a Value message, such as `list[str]`; `Any` if it is not known."""
    which = value.WhichOneof("value_type")
    if which != "array_value":
        return _TYPES.get(which or "", _UNKNOWN)
    return f"list[{union(map(type_text, value.array_value.values)) or 'Any'}]"


def union(types: Iterable[str]) -> str:
    """A union such as `int | str | None`, in an order that does not depend on that of `types`."""
    found = set(types)
    if any(text.startswith("list[") for text in found - {_EMPTY}):
        found.discard(_EMPTY)
    return " | ".join(sorted(found, key=lambda text: (text == "None", text)))
