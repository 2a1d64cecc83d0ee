"""The proto3 JSON of `google.datastore.v1.Entity`, some ten times faster than protobuf's own.

Only what protobuf itself writes is handled here; whatever else is allowed to be read (other
spellings of names and numbers), and every mistake, is left to `json_format`.
"""

from __future__ import annotations

import base64
from math import isfinite
from typing import Any

from google.protobuf import json_format

from bulkup.local import messages as m


def to_form(entity: Any) -> dict[str, Any]:
    """Raises ValueError for what JSON cannot say, a time out of range say."""
    form: dict[str, Any] = {}
    if entity.HasField("key"):
        form["key"] = _key_form(entity.key)
    if entity.properties:
        form["properties"] = _properties_form(entity.properties)
    return form


def from_form(form: dict[str, Any]) -> Any:
    """The Entity message. Raises `json_format.ParseError` for what is none."""
    try:
        entity = m.Entity()
        _fill_entity(entity, form)
    except _UNUSUAL:
        try:
            entity = json_format.ParseDict(form, m.Entity())
        except SystemError as error:  # what protobuf makes of a name with half a surrogate pair
            raise json_format.ParseError("a name is not valid UTF-8") from error
    return entity


class _Unusual(Exception):
    pass


_UNUSUAL = (_Unusual, TypeError, ValueError, AttributeError, OverflowError)
"""What the quick way stumbles over. A UnicodeEncodeError is a ValueError too."""


def _key_form(key: Any) -> dict[str, Any]:
    form: dict[str, Any] = {}
    if key.HasField("partition_id"):
        place = key.partition_id
        names = (
            ("projectId", place.project_id),
            ("databaseId", place.database_id),
            ("namespaceId", place.namespace_id),
        )
        form["partitionId"] = {name: value for name, value in names if value}
    if key.path:
        form["path"] = [_element_form(element) for element in key.path]
    return form


def _element_form(element: Any) -> dict[str, Any]:
    form = {"kind": element.kind} if element.kind else {}
    which = element.WhichOneof("id_type")
    if which is not None:
        form[which] = str(element.id) if which == "id" else element.name
    return form


def _properties_form(properties: Any) -> dict[str, Any]:
    return {name: _value_form(properties[name]) for name in sorted(properties)}


def _value_form(pb: Any) -> dict[str, Any]:
    form: dict[str, Any] = {}
    which = pb.WhichOneof("value_type")
    if which is not None:
        name, write = _WRITERS[which]
        form[name] = write(getattr(pb, which))
    if pb.meaning:
        form["meaning"] = pb.meaning
    if pb.exclude_from_indexes:
        form["excludeFromIndexes"] = True
    return form


def _double_form(value: float) -> Any:
    if isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _geo_form(geo: Any) -> dict[str, Any]:
    # The fields that are set: a zero is not, a negative zero is.
    return {field.name: _double_form(value) for field, value in geo.ListFields()}


def _array_form(array: Any) -> dict[str, Any]:
    return {"values": [_value_form(one) for one in array.values]} if array.values else {}


_WRITERS: dict[str, tuple[str, Any]] = {
    "null_value": ("nullValue", lambda _: None),
    "boolean_value": ("booleanValue", bool),
    "integer_value": ("integerValue", str),
    "double_value": ("doubleValue", _double_form),
    "timestamp_value": ("timestampValue", lambda stamp: stamp.ToJsonString()),
    "key_value": ("keyValue", _key_form),
    "string_value": ("stringValue", str),
    "blob_value": ("blobValue", lambda blob: base64.b64encode(blob).decode("ascii")),
    "geo_point_value": ("geoPointValue", _geo_form),
    "entity_value": ("entityValue", to_form),
    "array_value": ("arrayValue", _array_form),
}


# --- reading ---


def _known(form: Any, names: frozenset[str]) -> None:
    if not form.keys() <= names:
        raise _Unusual


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Unusual
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unusual
    return value


_ENTITY = frozenset({"key", "properties"})
_KEY = frozenset({"partitionId", "path"})
_PLACE = frozenset({"projectId", "databaseId", "namespaceId"})
_GEO = frozenset({"latitude", "longitude"})
_ARRAY = frozenset({"values"})


def _fill_entity(pb: Any, form: dict[str, Any]) -> None:
    _known(form, _ENTITY)
    if "key" in form:
        _fill_key(pb.key, form["key"])
    for name, value in form.get("properties", {}).items():
        _fill_value(pb.properties[name], value)


def _fill_key(pb: Any, form: dict[str, Any]) -> None:
    _known(form, _KEY)
    pb.SetInParent()
    if "partitionId" in form:
        place = form["partitionId"]
        _known(place, _PLACE)
        pb.partition_id.SetInParent()
        pb.partition_id.project_id = _text(place.get("projectId", ""))
        pb.partition_id.database_id = _text(place.get("databaseId", ""))
        pb.partition_id.namespace_id = _text(place.get("namespaceId", ""))
    for element in _list(form.get("path", [])):
        to = pb.path.add()
        for name, value in element.items():
            if name == "id" and "name" not in element:
                to.id = _integer(value)
            elif name in ("kind", "name"):
                setattr(to, name, _text(value))
            else:
                raise _Unusual


def _fill_value(pb: Any, form: dict[str, Any]) -> None:
    for name, value in form.items():
        reader = _READERS.get(name)
        if reader is None or (name not in _FLAGS and pb.WhichOneof("value_type") is not None):
            raise _Unusual
        reader(pb, value)


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    # As protobuf writes it; int() alone would also take " 1_000 ".
    number = int(_text(value))
    if str(number) != value:
        raise _Unusual
    return number


def _double(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value):
        raise _Unusual  # also "NaN" and "Infinity", which protobuf reads
    return float(value)


def _read_null(pb: Any, value: Any) -> None:
    if value is not None:
        raise _Unusual
    pb.null_value = 0


def _read_boolean(pb: Any, value: Any) -> None:
    if type(value) is not bool:
        raise _Unusual
    pb.boolean_value = value


def _read_integer(pb: Any, value: Any) -> None:
    pb.integer_value = _integer(value)


def _read_double(pb: Any, value: Any) -> None:
    pb.double_value = _double(value)


def _read_timestamp(pb: Any, value: Any) -> None:
    pb.timestamp_value.SetInParent()
    pb.timestamp_value.FromJsonString(_text(value))


def _read_key(pb: Any, value: Any) -> None:
    pb.key_value.SetInParent()
    _fill_key(pb.key_value, value)


def _read_string(pb: Any, value: Any) -> None:
    pb.string_value = _text(value)


def _read_blob(pb: Any, value: Any) -> None:
    pb.blob_value = base64.b64decode(_text(value), validate=True)


def _read_geo(pb: Any, value: Any) -> None:
    _known(value, _GEO)
    pb.geo_point_value.SetInParent()
    for name, degrees in value.items():
        setattr(pb.geo_point_value, name, _double(degrees))


def _read_entity(pb: Any, value: Any) -> None:
    pb.entity_value.SetInParent()
    _fill_entity(pb.entity_value, value)


def _read_array(pb: Any, value: Any) -> None:
    _known(value, _ARRAY)
    pb.array_value.SetInParent()
    for one in _list(value.get("values", [])):
        _fill_value(pb.array_value.values.add(), one)


def _read_meaning(pb: Any, value: Any) -> None:
    pb.meaning = _integer(value)


def _read_exclude(pb: Any, value: Any) -> None:
    if type(value) is not bool:
        raise _Unusual
    pb.exclude_from_indexes = value


_READERS: dict[str, Any] = {
    "nullValue": _read_null,
    "booleanValue": _read_boolean,
    "integerValue": _read_integer,
    "doubleValue": _read_double,
    "timestampValue": _read_timestamp,
    "keyValue": _read_key,
    "stringValue": _read_string,
    "blobValue": _read_blob,
    "geoPointValue": _read_geo,
    "entityValue": _read_entity,
    "arrayValue": _read_array,
    "meaning": _read_meaning,
    "excludeFromIndexes": _read_exclude,
}
_FLAGS = frozenset({"meaning", "excludeFromIndexes"})
