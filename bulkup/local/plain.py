"""Commits of plain entities, checked by protobuf's own code.

Most commits are many entities of numbers, texts and times, all in one partition. To look at every
value of these takes longer than all else that a commit does. So there are message classes here
that know only what is plain: parsed with them, a request that has anything else is not as long
when it is serialized again, and is left to `check_mutations`. The few things that such classes
cannot tell are looked for in the bytes. What is found there may be a part of some text; then that
entity alone is looked into.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bulkup.local import messages as m
from bulkup.local.encoding import Partition
from bulkup.local.limits import MAX_INDEXED_BYTES, checked_place, is_reserved, partition_of
from bulkup.local.mutations import FAIL, Operation
from bulkup.local.status import RpcError

_PACKAGE = "bulkup.plain"
_LEVELS = 3
"""Of entities in entities, fewer than are allowed."""
_Field = descriptor_pb2.FieldDescriptorProto
_REPEATED = ("properties", "values", "path", "mutations")
_OPERATIONS = ("insert", "update", "upsert")
_SCALARS = (
    "null_value", "boolean_value", "integer_value", "double_value", "string_value", "blob_value"
)  # fmt: skip
_Timestamp = type(m.Value().timestamp_value)
_PartitionId = type(m.Key().partition_id)


def _classes() -> tuple[Any, Any]:
    """A CommitRequest with what is plain, and one whose entities stay bytes."""
    file = descriptor_pb2.FileDescriptorProto(
        name="bulkup/plain.proto", package=_PACKAGE, syntax="proto3"
    )
    value, entity = m.Value.DESCRIPTOR, m.Entity.DESCRIPTOR
    array = value.fields_by_name["array_value"].message_type
    key = m.Key.DESCRIPTOR
    element = key.fields_by_name["path"].message_type

    def message(called: str, theirs: Any, **fields: str) -> Any:
        """One that has some fields of theirs; by name, the type of each: "" for the same, "bytes"
        or a message of ours."""
        ours = file.message_type.add(name=called)
        oneofs: dict[str, int] = {}
        for field_name, type_ in fields.items():
            original = theirs.fields_by_name[field_name]
            field = ours.field.add(name=field_name, number=original.number)
            is_repeated = field_name in _REPEATED  # older descriptors cannot be asked in this way
            field.label = _Field.LABEL_REPEATED if is_repeated else _Field.LABEL_OPTIONAL
            field.type = original.type
            if type_ == "bytes":
                field.type = _Field.TYPE_BYTES
            elif type_:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
            elif original.type == _Field.TYPE_ENUM:
                field.type = _Field.TYPE_INT32
            elif original.message_type is not None:
                field.type_name = f".{original.message_type.full_name}"
            oneof = original.containing_oneof
            if oneof is not None:
                if oneof.name not in oneofs:
                    oneofs[oneof.name] = len(ours.oneof_decl)
                    ours.oneof_decl.add(name=oneof.name)
                field.oneof_index = oneofs[oneof.name]
        return ours

    def properties(ours: Any, of: str) -> None:
        entry = ours.nested_type.add(name="PropertiesEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=1)
        entry.field.add(
            name="value", number=2, type=_Field.TYPE_MESSAGE, label=1, type_name=f".{_PACKAGE}.{of}"
        )

    scalars = dict.fromkeys((*_SCALARS, "timestamp_value", "exclude_from_indexes"), "")
    for level in range(_LEVELS + 1):
        inner = {"entity_value": f"Entity{level + 1}"} if level < _LEVELS else {}
        message(f"Element{level}", value, **scalars, **inner)
        message(f"Array{level}", array, values=f"Element{level}")
        message(f"Value{level}", value, **scalars, **inner, array_value=f"Array{level}")
        name = f"Entity{level}"
        keys = {} if level else {"key": "Key"}
        ours = message(name, entity, **keys, properties=f"{name}.PropertiesEntry")
        properties(ours, f"Value{level}")
    message("Element", element, kind="", id="", name="")
    message("Key", key, partition_id="bytes", path="Element")
    mutation = m.Mutation.DESCRIPTOR
    settings = {"base_version": "", "conflict_resolution_strategy": ""}
    message("Mutation", mutation, **dict.fromkeys(_OPERATIONS, "Entity0"), **settings)
    message("Body", mutation, **dict.fromkeys(_OPERATIONS, "bytes"))
    request = m.CommitRequest.DESCRIPTOR
    head = dict.fromkeys(
        ("project_id", "database_id", "mode", "transaction", "single_use_transaction"), ""
    )
    message("CommitRequest", request, **head, mutations="Mutation")
    message("Bodies", request, mutations="Body")
    for imported in {request.file.name, value.file.name, _Timestamp.DESCRIPTOR.file.name}:
        file.dependency.append(imported)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    request, bodies = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("CommitRequest", "Bodies")
    )
    return request, bodies


PlainRequest, _Bodies = _classes()
_READ_WRITE = b"\x52\x02\x0a\x00"
"""How a request ends with the usual `single_use_transaction`."""
_EMPTY = re.compile(rb"\x00(?<=[\x0a\x12].)", re.DOTALL)
"""A name or an element, or a property's value, of no bytes. These begin with what is searched for
fast, and few bytes are; then they look back."""
_ONLY_EXCLUDED = re.compile(rb"\x98(?<=[\x0a\x12]\x03.)\x01\x01", re.DOTALL)
"""An element, or a property's value, that is excluded from indexes and nothing else."""
_MINUS = b"\xff\xff\xff\xff\x01"
"""How a negative number ends."""
_NEGATIVE = re.compile(rb"[\x28\x50\x58][\x80-\xff]{4}[\xf8-\xff]\xff{4}\x01")
"""One of 32 bits: a mode, a strategy, a null."""
_MAX_PARTITION_BYTES = 1000
_MAX_BYTES = 2 << 20
"""Of a request. The entities of larger ones are large themselves, and looked into anyway."""
_UNDERSCORE = re.compile(rb"\x0a.{1,2}_", re.DOTALL)
"""A name that may be reserved."""
_TIME = re.compile(
    rb"\x52[\x02-\x16](?=\x08[\x80-\xff]{5}|(?:\x08[\x80-\xff]{0,9}[\x00-\x7f])?\x10)"
)
"""The timestamps with nanoseconds, or with seconds of more than five bytes: before 1970, or so far
away that they may be after 9999. The second byte, a length, is never the first of another match."""
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799
"""The years 1 to 9999."""
_ARRAY = b"\x4a"
_EXCLUDED = b"\x98\x01\x01"


def plain_commit(raw: bytes) -> tuple[Any, list[Operation]] | None:
    """A CommitRequest, without its mutations, and its operations, as `check_mutations` gives them;
    None when it may be one that is to be refused, or has anything that is not plain.

    Then nothing is said: whoever takes a closer look has the error for it.
    """
    if len(raw) > _MAX_BYTES:
        return None
    try:
        request = PlainRequest.FromString(raw)
        request.DiscardUnknownFields()
        canonical = request.SerializeToString(deterministic=True)
        if len(canonical) != len(raw):
            return None
        searched = canonical[:-2] if canonical.endswith(_READ_WRITE) else canonical
        closer = _suspicious(searched)
        if (closer and (_EMPTY.search(searched) is not None or _has_odd_time(searched))) or (
            _MINUS in searched and _NEGATIVE.search(searched) is not None
        ):
            # Where the request left out a part of a property this was added to it, and a negative
            # number may have come in fewer bytes than it is written in; so the length does not
            # tell that as much of something else was dropped.
            whole = m.CommitRequest.FromString(raw)
            if whole.SerializeToString(deterministic=True) != canonical:
                return None
        operations = _operations(request, _Bodies.FromString(canonical), closer)
    except (DecodeError, RpcError):
        return None
    return None if operations is None else (request, operations)


def _operations(request: Any, bodies: Any, closer: bool) -> list[Operation] | None:
    operations: list[Operation] = []
    paths = set()
    partition, place = None, b""
    for mutation, encoded in zip(request.mutations, bodies.mutations, strict=True):
        name = mutation.WhichOneof("operation")
        if name is None:
            return None
        key = getattr(mutation, name).key
        if key.partition_id != place or partition is None:
            if partition is not None:
                return None
            place = key.partition_id
            if len(place) > _MAX_PARTITION_BYTES:
                return None
            partition = _partition(place, request.project_id, request.database_id)
            if partition is None:
                return None
        path, kind = checked_place(key, complete=True)
        paths.add(path)
        base_version = mutation.base_version
        strategy = mutation.conflict_resolution_strategy
        if base_version:
            if base_version < 0 or name == "insert":
                return None
        elif not mutation.HasField("base_version"):
            if strategy:
                return None
            base_version = None
        elif name == "update":
            return None
        body = getattr(encoded, name)
        if len(body) > MAX_INDEXED_BYTES or (closer and _suspicious(body)):
            operation = Operation(name, partition, kind, path, base_version, strategy == FAIL)
            operation.message = m.Entity.FromString(body)
        else:
            operation = Operation(name, partition, kind, path, base_version, strategy == FAIL, body)
        operations.append(operation)
    # Several mutations of one entity have rules of their own.
    return operations if len(paths) == len(operations) and operations else None


@lru_cache(maxsize=64)
def _partition(encoded: bytes, project: str, database: str) -> Partition | None:
    """Of a key that names all of it, in the bytes that we would write."""
    message = _PartitionId.FromString(encoded)
    if not message.project_id or message.SerializeToString(deterministic=True) != encoded:
        return None
    partition = partition_of(message, project, database)
    return None if partition.namespace and is_reserved(partition.namespace) else partition


def _suspicious(data: bytes) -> bool:
    """Whether there may be in these bytes what `index_entries` refuses or changes."""
    return (
        _EMPTY.search(data) is not None
        or _ONLY_EXCLUDED.search(data) is not None
        or _UNDERSCORE.search(data) is not None
        or _has_odd_time(data)
        or _has_excluded_array(data)
    )


def _has_odd_time(data: bytes) -> bool:
    """Not in the years 1 to 9999, or finer than microseconds."""
    for match in _TIME.finditer(data):
        start = match.end()
        try:
            stamp = _Timestamp.FromString(data[start : start + data[start - 1]])
        except DecodeError:
            continue  # a part of something else
        nanos = stamp.nanos
        if nanos % 1000 or not 0 <= nanos < 10**9:
            return True
        if not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND:
            return True
    return False


def _has_excluded_array(data: bytes) -> bool:
    """An array itself excluded from indexes: right after it is the field that says so."""
    if _EXCLUDED not in data:
        return False
    at, last = data.find(_ARRAY), len(data) - len(_EXCLUDED)
    while 0 <= at < last:
        length = shift = 0
        start = at
        while True:
            at += 1
            byte = data[at]
            length |= (byte & 0x7F) << shift
            if byte < 0x80 or at >= last or shift > 28:  # no length is longer
                break
            shift += 7
        if data.startswith(_EXCLUDED, at + 1 + length):
            return True
        at = data.find(_ARRAY, start + 1)
    return False
