"""Key <-> protobuf, and what a key looks like as bytes and as text.

Messages here are raw upb messages (`KeyPb`), never proto-plus ones: wrapping a single key costs
more than everything else bulkup does with an entity.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.cloud.datastore import Key
from google.cloud.datastore_v1.types import entity as entity_types

Pb: TypeAlias = Any
"""A raw upb message; protobuf generates these classes at run time, so no checker knows them."""

KeyPb: Any = entity_types.Key.pb()


def key_to_pb(key: Key) -> Pb:
    """A new `google.datastore.v1.Key` message, equal to `key.to_protobuf()._pb`.

    Raises ValueError or TypeError for what a key cannot hold (an id of more than 64 bits, say).
    """
    pb = KeyPb()
    write_key(pb, key)
    return pb


def write_key(pb: Pb, key: Key) -> None:
    """Fill an empty Key message in place."""
    try:
        partition = pb.partition_id
        partition.project_id = key.project
        if key.database:
            partition.database_id = key.database
        if key.namespace:
            partition.namespace_id = key.namespace
        path = key.flat_path
        add = pb.path.add
        for kind, id_or_name in zip(path[::2], path[1::2], strict=False):
            element = add()
            element.kind = kind
            if isinstance(id_or_name, str):
                element.name = id_or_name
            else:
                element.id = id_or_name
        if len(path) % 2:
            add().kind = path[-1]
    except UnicodeEncodeError as error:
        raise ValueError(f"{key_text(key)} holds text that UTF-8 cannot encode") from error
    except ValueError as error:
        raise ValueError(f"{key_text(key)} holds an id of more than 64 bits") from error


def key_from_pb(pb: Pb) -> Key:
    """The `google.cloud.datastore.Key` of a message, as the official client decodes it.

    Raises ValueError for a key without a path or a project.
    """
    path: list[Any] = []
    for element in pb.path:
        path.append(element.kind)
        if element.id:
            path.append(element.id)
        if element.name:
            path.append(element.name)
    partition = pb.partition_id
    return Key(
        *path,
        project=partition.project_id or None,
        database=partition.database_id or None,
        namespace=partition.namespace_id or None,
    )


def key_bytes(pb: Pb) -> bytes:
    """The identity of a key, partition included: equal keys, and only those, give equal bytes.

    A Key message holds no map, so its serialisation has one form, today and in a later process.
    """
    serialized: bytes = pb.SerializeToString()
    return serialized


def key_of(serialized: bytes) -> Pb:
    """The Key message of what `key_bytes` gave."""
    return KeyPb.FromString(serialized)


def key_text(key: Any) -> str:
    """A key (message or `Key`) for people: `Key('City', 5, 'Street', 'a', namespace='x')`.

    All parts are Python literals, so control characters come escaped. Project and database are
    left out: they are those of the run's target.
    """
    if isinstance(key, Key):
        parts = [repr(part) for part in key.flat_path]
        namespace = key.namespace
    else:
        parts = []
        for element in key.path:
            parts.append(repr(element.kind))
            which = element.WhichOneof("id_type")
            if which is not None:
                parts.append(repr(getattr(element, which)))
        namespace = key.partition_id.namespace_id
    if namespace:
        parts.append(f"namespace={namespace!r}")
    return f"Key({', '.join(parts)})"
