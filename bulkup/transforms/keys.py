"""New keys for entities: made from a property, or of another kind."""

from __future__ import annotations

from google.cloud.datastore import Entity, Key

from bulkup.core.limits import MAX_NAME_BYTES, is_reserved
from bulkup.core.similar import similar_names
from bulkup.datastore.keys import key_text
from bulkup.transforms.transform import shown


def key_from_property(entity: Entity, name: str) -> Key:
    """The entity's key with the value of a property as its id (int) or name (str).

    Raises ValueError for a value that is neither, or that no key can have.
    """
    key = entity.key
    if name not in entity:
        close = similar_names(name, entity)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{key_text(key)} has no property {name!r}, so it has no new key{meant}")
    value = entity[name]
    if isinstance(value, str):
        if not value or len(value.encode()) > MAX_NAME_BYTES or is_reserved(value):
            raise ValueError(
                f"property {name!r} is {shown(value)}, and the name in a key has 1 to "
                f"{MAX_NAME_BYTES:,} bytes and is not of the form __name__"
            )
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
        raise ValueError(
            f"property {name!r} is {shown(value)}; a key takes a string, or an integer above 0"
        )
    return _with_last(key, key.kind, value)


def key_of_kind(entity: Entity, kind: str) -> Key:
    """The entity's key with another kind, and the same parent and id or name."""
    return _with_last(entity.key, kind, entity.key.id_or_name)


def _with_last(key: Key, kind: str, id_or_name: int | str) -> Key:
    return Key(
        *key.flat_path[:-2], kind, id_or_name,
        project=key.project, database=key.database, namespace=key.namespace,
    )  # fmt: skip
