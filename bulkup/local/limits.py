"""What the service refuses before it looks at what is stored.

The numbers are the documented limits of Firestore in Datastore mode. The messages are the service's
own where they are known from its emulators.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from bulkup.local.encoding import Partition, encode_id, encode_path
from bulkup.local.status import RpcError, invalid

MAX_REQUEST_BYTES = 10 * 1024 * 1024
MAX_ENTITY_BYTES = 1_048_572
MAX_INDEXED_BYTES = 1500
MAX_NAME_BYTES = 1500
MAX_KEY_ELEMENTS = 100
MAX_NESTING = 20
MAX_INDEXED_VALUES = 20_000
MAX_LOOKUP_KEYS = 1000
MAX_DISJUNCTIONS = 30
MAX_NOT_IN_VALUES = 10
MAX_AGGREGATIONS = 5
MAX_TRANSFORMS = 500


_PROJECT = re.compile(r"[A-Za-z\d.\-_:~]{1,100}", re.ASCII)
"""Including the domain of old projects: `example.com:project`."""
_NAMESPACE = re.compile(r"[A-Za-z\d.\-_]{1,100}", re.ASCII)


def is_reserved(name: str) -> bool:
    """Whether a name matches `__.*__`, which the service reserves."""
    return len(name) >= 4 and name.startswith("__") and name.endswith("__")


def check_request_size(size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise invalid(
            f"datastore transaction or write too big: the request has {size} bytes, the limit is "
            f"{MAX_REQUEST_BYTES}"
        )


def check_project(project: str) -> None:
    if _PROJECT.fullmatch(project) is None:
        raise invalid(f'"{project[:110]}" is an invalid app id.')


@lru_cache(maxsize=64)
def _nameless(project: str, database: str) -> Partition:
    return Partition(project, database, "")


def partition_of(message: Any, project: str, database: str) -> Partition:
    """The partition of a key or query; the request provides what it leaves out."""
    found = message.project_id or project
    if found == project and message.database_id == database and not message.namespace_id:
        return _nameless(project, database)
    if found != project or message.database_id != database:
        raise invalid(
            f"mismatched databases within request: {project}/{database or '(default)'} vs. "
            f"{found}/{message.database_id or '(default)'}"
        )
    check_namespace(message.namespace_id)
    return Partition(project, database, message.namespace_id)


def check_namespace(namespace: str) -> None:
    if namespace and _NAMESPACE.fullmatch(namespace) is None:
        raise invalid(f'Illegal string "{namespace[:110]}" in namespace id.')


def check_key(key: Any, *, complete: bool, reserved_ok: bool = False) -> None:
    """Raise INVALID_ARGUMENT for a key that no entity can have.

    `complete=False` allows the last element to have neither id nor name.
    """
    path = key.path
    if not path:
        raise invalid("The key path must not be empty.")
    if len(path) > MAX_KEY_ELEMENTS:
        raise invalid(f"Key path is too long. Cannot exceed {MAX_KEY_ELEMENTS} elements.")
    last = len(path) - 1
    for number, element in enumerate(path):
        kind, name = element.kind, element.name
        if not kind:
            raise invalid("The kind is the empty string.")
        if len(kind) > 375 and len(kind.encode()) > MAX_NAME_BYTES:
            raise invalid(f"The kind is longer than {MAX_NAME_BYTES} bytes.")
        if kind.startswith("__") and not reserved_ok and is_reserved(kind):
            raise invalid(f'The kind "{kind}" is reserved.')
        which = element.WhichOneof("id_type")
        if which is None:
            if complete or number != last:
                raise invalid(f"Key path element must not be incomplete: {_path_text(path)}")
        elif which == "id":
            if element.id == 0:
                raise invalid("Key path id is invalid. Must not be zero.")
        elif not name:
            raise invalid("The key path element name is the empty string.")
        else:
            if len(name) > 375 and len(name.encode()) > MAX_NAME_BYTES:
                raise invalid(f"The key path element name is longer than {MAX_NAME_BYTES} bytes.")
            if name.startswith("__") and not reserved_ok and is_reserved(name):
                raise invalid(f'The key path element name "{name}" is reserved.')


_heads: dict[str, tuple[bytes, str]] = {}
"""By kind, for kinds that have been checked: the first bytes of the path of a key that is one id of
that kind, and the kind. The kind is always the same string object, which makes comparisons fast."""
_MAX_HEADS = 1000


def checked_place(key: Any, *, complete: bool, reserved_ok: bool = False) -> tuple[bytes, str]:
    """The encoded path of a key (empty for an incomplete one) and its kind. Raises like
    `check_key`."""
    path = key.path
    if len(path) == 1:
        # Most keys: the same as below, for a kind that has been checked before.
        element = path[0]
        number = element.id
        known = _heads.get(element.kind)
        if number and known is not None:
            head, kind = known
            return encode_id(number, head), kind
    check_key(key, complete=complete, reserved_ok=reserved_ok)
    last = path[-1]
    kind = last.kind
    if not (last.id or last.name):
        return b"", kind
    encoded = encode_path(path)
    if len(path) == 1 and last.id and not is_reserved(kind) and len(_heads) < _MAX_HEADS:
        _heads[kind] = encoded.removesuffix(encode_id(last.id)), kind
    return encoded, kind


def check_key_value(key: Any, *, complete: bool = True) -> None:
    """Raise INVALID_ARGUMENT for a key value that no entity can have, here or elsewhere."""
    check_key(key, complete=complete, reserved_ok=True)
    check_namespace(key.partition_id.namespace_id)


def _path_text(path: Any) -> str:
    parts = []
    for element in path:
        ident = repr(element.name) if element.name else str(element.id) if element.id else "?"
        parts.append(f"{element.kind}: {ident}")
    return "[" + ", ".join(parts)[:300] + "]"


def key_text(key: Any) -> str:
    """A key as messages show it."""
    return _path_text(key.path)


def check_property_name(name: str, *, reserved_ok: bool = False) -> None:
    if not name:
        raise invalid("The property.name is the empty string.")
    if len(name) > 375 and len(name.encode()) > MAX_NAME_BYTES:
        raise invalid(f"The property.name is longer than {MAX_NAME_BYTES} bytes.")
    if name.startswith("__") and not reserved_ok and is_reserved(name):
        raise invalid(f'The property.name "{name}" is reserved.')


def too_long(name: str) -> RpcError:
    return invalid(f'The value of property "{name}" is longer than {MAX_INDEXED_BYTES} bytes.')


def check_entity_size(size: int) -> None:
    if size > MAX_ENTITY_BYTES:
        raise invalid(
            f"The entity is too big: it has {size} bytes, the maximum entity size is "
            f"{MAX_ENTITY_BYTES} bytes."
        )
