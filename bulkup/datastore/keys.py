"""Keys as protobuf messages, as bytes, and as people read them."""

from __future__ import annotations

import hashlib
from typing import Any

from google.cloud.datastore import Key

from bulkup.datastore.messages import KeyPb, Pb


def key_to_pb(key: Key) -> Pb:
    """The Key message that the official client would send.

    Raises ValueError or TypeError for what a key cannot hold, such as an id of more than 64 bits.
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
        raise ValueError(f"{key_text(key)} holds a string that UTF-8 cannot encode") from error
    except ValueError as error:
        raise ValueError(f"{key_text(key)} holds an id of more than 64 bits") from error


def key_from_pb(pb: Pb) -> Key:
    """Decode a Key message as the official client does.

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
    """The key's identity, partition included: two keys are equal if their bytes are.

    A Key message holds no map, so its serialization is the same in every process.
    """
    serialized: bytes = pb.SerializeToString()
    return serialized


def key_of(serialized: bytes) -> Pb:
    """The Key message that `key_bytes` serialized."""
    return KeyPb.FromString(serialized)


def key_digest(serialized: bytes) -> bytes:
    """A digest of 16 bytes, for a key of up to 6 KiB. With 128 bits a collision is practically
    impossible."""
    return hashlib.blake2b(serialized, digest_size=16).digest()


def key_text(key: Any) -> str:
    """A key (message or `Key`) for people: `Key('City', 5, 'Street', 'a', namespace='x')`.

    All parts are Python literals, so control characters are escaped. Project and database are left
    out, as they are the target's.
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
