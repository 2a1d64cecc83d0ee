"""`Entity` messages of the API to exported entities: the reverse of `decode.py`.

The bytes are those of Google's emulators for the same entity, with the properties sorted by name,
so that two exports of the same data are identical.
"""

from __future__ import annotations

from typing import Any

from bulkup.local import messages as m
from bulkup.local.exports import entity_proto, meanings
from bulkup.local.exports.decode import REQUIRED_OF_USERS, USER_FIELDS

_INTEGERS = {api: exported for exported, api in meanings.INTEGERS.items()}


def encode(entity: Any) -> bytes:
    """The record of an `Entity` message with a complete key.

    Lost: nanoseconds (rounded down to microseconds), and the order of an array of which some
    elements are indexed and others are not.
    """
    proto = entity_proto.EntityProto()
    project = entity.key.partition_id.project_id
    _fill(proto, entity, project)
    return bytes(proto.SerializeToString())


def _fill(proto: Any, entity: Any, project: str) -> None:
    key = proto.key
    key.path.SetInParent()
    proto.entity_group.SetInParent()
    if entity.HasField("key"):
        _reference(key, key.path.element, entity.key, project)
        first = key.path.element[0] if key.path.element else None
        if first is not None and (first.id or first.name):
            proto.entity_group.element.add().CopyFrom(first)
    else:
        key.app = ""  # the field is required
    properties = entity.properties
    for name in sorted(properties):
        value = properties[name]
        if value.WhichOneof("value_type") != "array_value":
            _add(proto, name, value, project)
        elif not value.array_value.values:
            group = proto.raw_property if value.exclude_from_indexes else proto.property
            empty = group.add(name=name, multiple=False, meaning=meanings.EMPTY_LIST)
            empty.value.SetInParent()
        else:
            for element in value.array_value.values:
                _add(proto, name, element, project, array=value)


def _add(proto: Any, name: str, value: Any, project: str, array: Any = None) -> None:
    """Add a value to the indexed or to the unindexed properties. `array`: the array it is an
    element of."""
    raw = value.exclude_from_indexes or (array is not None and array.exclude_from_indexes)
    group = proto.raw_property if raw else proto.property
    prop = group.add(name=name, multiple=array is not None)
    prop.value.SetInParent()
    _set(prop, value, raw, project)
    if array is not None and array.meaning == meanings.VECTOR:
        prop.meaning = meanings.VECTOR


def _set(prop: Any, value: Any, raw: bool, project: str) -> None:
    out = prop.value
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        out.string = value.string_value.encode()
        if value.meaning:
            prop.meaning = value.meaning
    elif kind == "integer_value":
        out.int64 = value.integer_value
        if value.meaning in _INTEGERS:
            prop.meaning = _INTEGERS[value.meaning]
    elif kind == "boolean_value":
        out.boolean = value.boolean_value
    elif kind == "double_value":
        out.double = value.double_value
    elif kind == "timestamp_value":
        out.int64 = m.micros_of(value.timestamp_value)
        prop.meaning = meanings.TIMESTAMP
    elif kind == "key_value":
        reference = out.reference
        _reference(reference, reference.pathelement, value.key_value, project)
    elif kind == "blob_value":
        _blob(prop, value, raw)
    elif kind == "geo_point_value":
        point = value.geo_point_value
        out.point.x, out.point.y = point.latitude, point.longitude
        if value.meaning != meanings.PLAIN_POINT:
            prop.meaning = meanings.POINT
    elif kind == "entity_value":
        _entity(prop, value, project)
    elif kind == "array_value":
        raise ValueError(f"its property {prop.name!r} has an array in an array")


def _blob(prop: Any, value: Any, raw: bool) -> None:
    prop.value.string = value.blob_value
    if value.meaning == meanings.ZLIB:
        prop.meaning_uri = meanings.ZLIB_URI
    if raw and value.meaning != meanings.BYTE_STRING:
        prop.meaning = meanings.BLOB
    else:
        prop.meaning = meanings.BYTE_STRING


def _entity(prop: Any, value: Any, project: str) -> None:
    inner = value.entity_value
    if value.meaning != meanings.USER or not inner.properties.keys() <= USER_FIELDS.keys():
        proto = entity_proto.EntityProto()
        _fill(proto, inner, project)
        prop.value.string = proto.SerializeToString()
        prop.meaning = meanings.ENTITY
        return
    user = prop.value.user
    user.gaiaid = 0  # required
    for name, field in USER_FIELDS.items():
        if name in inner.properties or name in REQUIRED_OF_USERS:
            found = inner.properties[name].string_value if name in inner.properties else ""
            setattr(user, field, found)


def _reference(reference: Any, path: Any, key: Any, project: str) -> None:
    """`project`: the project of keys that do not name one."""
    partition = key.partition_id
    reference.app = partition.project_id or project
    if partition.namespace_id:
        reference.name_space = partition.namespace_id
    if partition.database_id:
        reference.database_id = partition.database_id
    for element in key.path:
        added = path.add(type=element.kind)
        if element.name:
            added.name = element.name
        elif element.id:
            added.id = element.id
