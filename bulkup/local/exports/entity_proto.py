"""The protobuf messages of an export.

Entities are stored in the form of App Engine's first API. No library that can be installed beside
google-cloud-datastore has it, so the descriptors are built here. Two declarations differ from
Google's, without changing any byte: required fields are optional, because an entity inside another
one has only some of them, and the types of a value are a oneof.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "bulkup.local.exports"
_F = descriptor_pb2.FieldDescriptorProto
_BOOL, _BYTES, _DOUBLE, _INT32, _INT64, _STRING = (
    _F.TYPE_BOOL, _F.TYPE_BYTES, _F.TYPE_DOUBLE, _F.TYPE_INT32, _F.TYPE_INT64, _F.TYPE_STRING,
)  # fmt: skip


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="bulkup/local/exports/entity.proto", package=_PACKAGE, syntax="proto2"
    )

    # --- entities ---

    element = _message(file, "PathElement", type=(2, _STRING), id=(3, _INT64), name=(4, _STRING))
    path = _message(file, "Path")
    _group(path, "element", 1, element, repeated=True)

    reference = _message(
        file, "Reference", app=(13, _STRING), name_space=(20, _STRING), database_id=(23, _STRING)
    )
    _submessage(reference, "path", 14, path)

    point = _message(file, "PointValue", x=(6, _DOUBLE), y=(7, _DOUBLE))
    user = _message(
        file, "UserValue", email=(9, _STRING), auth_domain=(10, _STRING), nickname=(11, _STRING),
        gaiaid=(18, _INT64), obfuscated_gaiaid=(19, _STRING), federated_identity=(21, _STRING),
        federated_provider=(22, _STRING),
    )  # fmt: skip
    step = _message(
        file, "ReferencePathElement", type=(15, _STRING), id=(16, _INT64), name=(17, _STRING)
    )
    key = _message(
        file, "ReferenceValue", app=(13, _STRING), name_space=(20, _STRING),
        database_id=(23, _STRING),
    )  # fmt: skip
    _group(key, "pathelement", 14, step, repeated=True)
    value = _message(
        file, "PropertyValue", int64=(1, _INT64), boolean=(2, _BOOL), string=(3, _BYTES),
        double=(4, _DOUBLE),
    )  # fmt: skip
    _group(value, "point", 5, point)
    _group(value, "user", 8, user)
    _group(value, "reference", 12, key)
    value.oneof_decl.add(name="type")
    for field in value.field:
        field.oneof_index = 0

    prop = _message(
        file, "Property", meaning=(1, _INT32), meaning_uri=(2, _STRING), name=(3, _STRING),
        multiple=(4, _BOOL),
    )  # fmt: skip
    _submessage(prop, "value", 5, value)

    entity = _message(file, "EntityProto")
    _submessage(entity, "key", 13, reference)
    _submessage(entity, "entity_group", 16, path)
    _submessage(entity, "property", 14, prop, repeated=True)
    _submessage(entity, "raw_property", 15, prop, repeated=True)

    # --- metadata ---

    spec = _message(
        file, "Spec", kind_type=(1, _INT32), kind=(2, _STRING), namespace_type=(3, _INT32),
        namespace=(4, _STRING),
    )  # fmt: skip
    pointer = _message(file, "Pointer", file=(2, _STRING), entities=(3, _INT64), bytes=(4, _INT64))
    _submessage(pointer, "spec", 1, spec)
    overall = _message(file, "Overall")
    _submessage(overall, "pointer", 1, pointer, repeated=True)

    info = _message(file, "Info", name=(1, _STRING), start=(2, _INT64), end=(3, _INT64))
    kind = _message(file, "KindFiles", kind=(1, _STRING))
    kind.field.add(name="file", number=2, type=_STRING, label=_F.LABEL_REPEATED)
    part = _message(file, "Part")
    _submessage(part, "info", 1, info)
    _submessage(part, "kind", 2, kind, repeated=True)
    return file


def _message(file: Any, name: str, /, **fields: tuple[int, Any]) -> Any:
    message = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        message.field.add(name=field, number=number, type=kind, label=_F.LABEL_OPTIONAL)
    return message


def _submessage(
    message: Any, name: str, number: int, kind: Any, *, repeated: bool = False, group: bool = False
) -> None:
    message.field.add(
        name=name,
        number=number,
        type=_F.TYPE_GROUP if group else _F.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.{kind.name}",
        label=_F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL,
    )


def _group(message: Any, name: str, number: int, kind: Any, *, repeated: bool = False) -> None:
    """A submessage between two tags, without its length: the old form."""
    _submessage(message, name, number, kind, repeated=repeated, group=True)


def text(field: str | bytes) -> str:
    """A parsed string field as a string. protobuf's C implementation returns bytes that are not
    UTF-8 unchanged. Raises UnicodeDecodeError."""
    return field if isinstance(field, str) else str(field, "utf-8")


_pool = descriptor_pool.DescriptorPool()  # a pool of its own: other packages' names cannot conflict
_pool.AddSerializedFile(_file().SerializeToString())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


EntityProto = _class("EntityProto")
Pointer = _class("Pointer")
Overall = _class("Overall")
Part = _class("Part")
