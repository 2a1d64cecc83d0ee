"""bulkup's own small entities (run records, claims, group records) as raw protobuf.

Their properties are plain values. Writing and reading them directly takes one call per entity,
where the codec for users' entities takes several per property.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from bulkup.core.model import TargetInfo
from bulkup.datastore.messages import KeyPb, Pb

Stored = str | int | bool | bytes | datetime | None


def own_key(target: TargetInfo, kind: str, name: str) -> Pb:
    """The Key message of one of bulkup's own entities, in the target's namespace."""
    key = KeyPb()
    partition = key.partition_id
    partition.project_id = target.project
    partition.database_id = target.database
    partition.namespace_id = target.namespace
    key.path.add(kind=kind, name=name)
    return key


def write_properties(
    pb: Pb, values: Mapping[str, Stored], indexed: Collection[str] = frozenset()
) -> None:
    """Fill an Entity message's properties. Those not in `indexed` are excluded from indexes."""
    properties = pb.properties
    for name, value in values.items():
        stored = properties[name]
        if isinstance(value, str):
            stored.string_value = value
        elif isinstance(value, bool):  # before int: a bool is one
            stored.boolean_value = value
        elif isinstance(value, int):
            stored.integer_value = value
        elif isinstance(value, bytes):
            stored.blob_value = value
        elif value is None:
            stored.null_value = 0
        else:
            stored.timestamp_value.FromDatetime(value)
        if name not in indexed:
            stored.exclude_from_indexes = True


def read_properties(pb: Pb) -> dict[str, Any]:
    """The properties of an Entity message: plain values, and timestamps as whole Unix seconds."""
    values: dict[str, Any] = {}
    for name, stored in pb.properties.items():
        kind = stored.WhichOneof("value_type")
        if kind == "timestamp_value":
            values[name] = stored.timestamp_value.seconds
        elif kind is None or kind == "null_value":
            values[name] = None
        else:
            values[name] = getattr(stored, kind)
    return values
