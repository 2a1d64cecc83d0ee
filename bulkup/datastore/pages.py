"""Pages of query results, parsed only as deeply as needed.

On the wire the messages of this file equal those of `google.datastore.v1`. In memory, what most
updaters never read (a key's parts, the values of the properties) stays bytes: a value becomes a
message when it is accessed (`bulkup.datastore.lazy_entity`).
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.timestamp_pb2 import Timestamp

from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.messages import (
    EntityPb,
    EntityResultPb,
    LookupResponse,
    Pb,
    QueryResultBatchPb,
    RunQueryResponse,
)
from bulkup.datastore.reads import ABSENT

_PACKAGE = "bulkup.pages"
_Field = descriptor_pb2.FieldDescriptorProto


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3"
    )

    def message(theirs: Any, **fields: Any) -> Any:
        """Declare a message with some of the fields of `theirs`, by the same names and numbers."""
        theirs = theirs.DESCRIPTOR
        ours = file.message_type.add(name=theirs.name)
        for name, type_ in fields.items():
            number = theirs.fields_by_name[name].number
            field = ours.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
            if isinstance(type_, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
            else:
                field.type = type_
        return ours

    entity = message(EntityPb, key=_Field.TYPE_BYTES, properties="Entity.PropertiesEntry")
    entity.oneof_decl.add(name="_key")  # so that a key may be absent
    entity.field[0].proto3_optional, entity.field[0].oneof_index = True, 0
    entity.field[1].label = _Field.LABEL_REPEATED
    record = entity.nested_type.add(name="PropertiesEntry")
    record.options.map_entry = True
    for number, (name, type_) in enumerate(
        (("key", _Field.TYPE_STRING), ("value", _Field.TYPE_BYTES)), 1
    ):
        record.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL, type=type_)
    message(
        EntityResultPb,
        entity="Entity", version=_Field.TYPE_INT64, cursor=_Field.TYPE_BYTES,
        create_time=_Field.TYPE_BYTES, update_time=_Field.TYPE_BYTES,
    )  # fmt: skip
    batch = message(
        QueryResultBatchPb,
        entity_results="EntityResult", end_cursor=_Field.TYPE_BYTES, more_results=_Field.TYPE_INT32,
    )  # fmt: skip
    batch.field[0].label = _Field.LABEL_REPEATED
    message(RunQueryResponse, batch="QueryResultBatch")
    lookup = message(LookupResponse, found="EntityResult", missing="EntityResult")
    for field in lookup.field:
        field.label = _Field.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        ours.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{ours.name}")
        )
        for ours in file.message_type
    }


_ours = _classes()
PageEntity: Any = _ours["Entity"]
PageResult: Any = _ours["EntityResult"]
PageBatch: Any = _ours["QueryResultBatch"]
Page: Any = _ours["RunQueryResponse"]
FoundPage: Any = _ours["LookupResponse"]
"""The answer to a Lookup. A key that is neither found nor missing must be looked up again."""


def page_result(result: Pb) -> Pb:
    """Turn an EntityResult into a PageResult."""
    return PageResult.FromString(result.SerializeToString())


def absent_result(key: bytes, cursor: bytes = b"") -> Pb:
    """The PageResult of a serialized key without an entity: it has no properties, and ABSENT in
    place of a version."""
    result = PageResult(version=ABSENT, cursor=cursor)
    result.entity.key = key
    return result


def created_ns(result: Pb) -> int:
    """When the entity of a PageResult was created, in nanoseconds; 0: the server does not say."""
    nanoseconds: int = Timestamp.FromString(result.create_time).ToNanoseconds()
    return nanoseconds


def updated_micros(result: Pb) -> int:
    """When the entity of a PageResult was last written, in microseconds; 0: the server does not
    say."""
    micros: int = Timestamp.FromString(result.update_time).ToMicroseconds()
    return micros


def updated_ns(result: Pb) -> int:
    """When the entity of a PageResult was last changed; otherwise like `created_ns`."""
    nanoseconds: int = Timestamp.FromString(result.update_time).ToNanoseconds()
    return nanoseconds


def read_page(answer: bytes) -> Pb:
    """Parse the answer to a RunQuery. Raises DecodeError.

    Serialized keys identify entities, so they must be the bytes that we would write ourselves. A
    server serializes all its keys in the same way, so only the first key is checked.
    """
    page = Page.FromString(answer)
    results = page.batch.entity_results
    if results and key_bytes(key_of(results[0].entity.key)) != results[0].entity.key:
        for result in results:
            result.entity.key = key_bytes(key_of(result.entity.key))
    return page
