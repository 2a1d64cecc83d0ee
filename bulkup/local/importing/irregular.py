"""The index entries of entities that the service holds, but would refuse today.

An export may hold what a commit refuses: it was stored under older rules. Such an entity is loaded
as it is. A value that no index can hold has no index entry: a long string or blob, or a property
with a reserved name.

The embedded Datastore checks only what a commit changes, since what is stored was checked before.
Kinds with such entities are marked in the file (`Catalog.irregular`): their entities are checked as
a whole, so that a put is refused here if the service would refuse it.
"""

from __future__ import annotations

from typing import Any

from bulkup.core.limits import MAX_INDEXED_BYTES, VECTOR, is_reserved
from bulkup.local.encoding import BYTES, encode_key_value, encode_value
from bulkup.local.indexing import Entries, index_entries
from bulkup.local.limits import check_entity_size
from bulkup.local.packing import ELEMENT, SINGLE, TIMESTAMP
from bulkup.local.status import RpcError


def imported_body(entity: Any) -> tuple[bytes, Entries, str]:
    """An entity's serialized form, its index entries, and why a commit would refuse it (empty for
    most)."""
    refusal = ""
    try:
        entries = index_entries(entity)
    except RpcError as error:
        refusal = error.message
        entries = {}
        _entity(entity, "", True, SINGLE, entries)
    body = bytes(entity.SerializeToString(deterministic=True))
    if not refusal:
        try:
            check_entity_size(len(body))
        except RpcError as error:
            refusal = error.message
    # protobuf maps have no order. Properties are numbered in the order in which they come, and
    # loading again must give the same file.
    return body, dict(sorted(entries.items())), refusal


# As in indexing.py, without its checks.


def _entity(entity: Any, prefix: str, indexed: bool, form: int, entries: Entries) -> None:
    for name, value in entity.properties.items():
        _value(prefix + name, value, indexed and not is_reserved(name), form, entries)


def _value(path: str, value: Any, indexed: bool, form: int, entries: Entries) -> None:
    which = value.WhichOneof("value_type")
    indexed = indexed and not value.exclude_from_indexes
    if not indexed:
        return
    if which == "array_value":
        if value.meaning != VECTOR:
            for element in value.array_value.values:
                _value(path, element, indexed, ELEMENT, entries)
    elif which == "entity_value":
        inner = value.entity_value
        _entity(inner, path + ".", indexed, form, entries)
        if inner.key.path:
            _add(path + ".__key__", encode_key_value(inner.key), form, entries)
    else:
        encoded = encode_value(value)
        if form == SINGLE and which == "timestamp_value":
            form = TIMESTAMP
        if encoded is not None:
            _add(path, encoded, form, entries)


def _add(path: str, encoded: bytes, form: int, entries: Entries) -> None:
    if len(encoded) > MAX_INDEXED_BYTES + 1 and encoded[:1] == BYTES:
        return
    found = entries.setdefault(path, {})
    if isinstance(found, bytes):
        found = entries[path] = {found: SINGLE}
    found[encoded] = form
