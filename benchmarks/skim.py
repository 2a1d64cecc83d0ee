"""Messages of Datastore's API with all but one field left out: what is not asked for is skipped
over by protobuf's C code, at the cost of a copy."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _messages() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="benchmarks/skim.proto", package="benchmarks")
    batch = file.message_type.add(name="Batch")
    batch.field.add(name="end_cursor", number=4, type="TYPE_BYTES", label="LABEL_OPTIONAL")
    page = file.message_type.add(name="Page")
    page.field.add(
        name="batch", number=1, type="TYPE_MESSAGE", label="LABEL_OPTIONAL",
        type_name=".benchmarks.Batch",
    )  # fmt: skip
    commit = file.message_type.add(name="Commit")
    commit.field.add(name="mutations", number=6, type="TYPE_BYTES", label="LABEL_REPEATED")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    page_type, commit_type = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"benchmarks.{name}"))
        for name in ("Page", "Commit")
    )
    return page_type, commit_type


_Page, _Commit = _messages()


def end_cursor(run_query_response: bytes) -> bytes:
    return _Page.FromString(run_query_response).batch.end_cursor


def count_mutations(commit_request: bytes) -> int:
    return len(_Commit.FromString(commit_request).mutations)
