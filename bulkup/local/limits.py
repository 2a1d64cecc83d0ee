"""Checks that need no stored data: what the service refuses in requests and (`core/limits.py`) in
entities."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec

from bulkup.core import limits
from bulkup.core.limits import LimitError, is_reserved
from bulkup.local.encoding import Partition, encode_id, encode_path
from bulkup.local.status import RpcError, invalid

P = ParamSpec("P")

MAX_REQUEST_BYTES = 10 * 1024 * 1024
MAX_LOOKUP_KEYS = 1000
MAX_DISJUNCTIONS = 30
MAX_NOT_IN_VALUES = 10
MAX_AGGREGATIONS = 5
MAX_TRANSFORMS = 500


_PROJECT = re.compile(r"[A-Za-z\d.\-_:~]{1,100}", re.ASCII)
"""Allows the domain prefix of old projects: `example.com:project`."""


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
    """The partition of a key or query; what it leaves out comes from the request."""
    found = message.project_id or project
    if found == project and message.database_id == database and not message.namespace_id:
        return _nameless(project, database)
    _check_partition(message, project, database)
    return Partition(project, database, message.namespace_id)


def _refusing(check: Callable[P, None]) -> Callable[P, None]:
    """Make a check raise INVALID_ARGUMENT instead of LimitError."""

    @wraps(check)
    def refuse(*args: P.args, **options: P.kwargs) -> None:
        try:
            check(*args, **options)
        except LimitError as error:
            raise refused(error) from None

    return refuse


def refused(error: LimitError) -> RpcError:
    """The INVALID_ARGUMENT for a LimitError, without its hint, which is for users of bulkup."""
    return invalid(error.message)


_check_partition = _refusing(limits.check_partition)
check_namespace = _refusing(limits.check_namespace)
check_key = _refusing(limits.check_key)
check_key_value = _refusing(limits.check_key_value)
check_property_name = _refusing(limits.check_property_name)
check_entity_size = _refusing(limits.check_entity_size)
check_range = _refusing(limits.check_range)
check_length = _refusing(limits.check_length)
check_meaning = _refusing(limits.check_meaning)


_heads: dict[str, tuple[bytes, str]] = {}
"""For each kind that has been checked: the encoded path of a root key with an id, up to the id, and
the kind. The kind is always the same string object, which makes comparisons fast."""
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


def key_text(key: Any) -> str:
    """A key as messages show it."""
    return limits.path_text(key.path)
