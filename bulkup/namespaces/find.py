"""Which namespaces there are, and which of them are meant."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from bulkup.core.errors import NotFoundError, TargetError
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.queries import kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import OWN_KINDS

EVERY = "*"
"""The pattern of `--all-namespaces`."""

ASKED_AT_ONCE = 16
"""Namespaces whose kinds are asked for at the same time: each answer is a few rows."""

_PAGE = 300


def shown(namespace: str) -> str:
    """As people are told; the empty one has a name then."""
    return namespace or "(default)"


def find(rpc: Rpc, pattern: str, *, known: Iterable[str] = ()) -> list[str]:
    """The namespaces that hold data of users' and fit a pattern, in their natural order.

    Those `known` are left out, unasked. The pattern knows `*`, `?` and `[abc]`, and of the case of
    letters; the default namespace is the empty text. Raises TargetError where the server cannot
    list namespaces, CallError.
    """
    left_out = set(known)
    try:
        every = list(_names(rpc, "__namespace__", "", None))
    except CallError as error:
        if not error.is_unsupported:
            raise
        raise TargetError(
            "this server does not list its namespaces (the Firestore emulator cannot); run the "
            "command once for each, with --namespace NAME",
            details=error.details,
        ) from error
    names = [n for n in every if fnmatchcase(n, pattern) and n not in left_out]
    waiting = deque(sorted(names, key=_natural))
    asked: deque[tuple[str, Call[Any]]] = deque()
    found = []
    while waiting or asked:
        while waiting and len(asked) < ASKED_AT_ONCE:
            name = waiting.popleft()
            asked.append((name, rpc.run_query(_metadata("__kind__"), name)))
        name, call = asked.popleft()
        # One with nothing but records of bulkup's was emptied. `__Stat_...__` are the service's.
        if any(k not in OWN_KINDS and k[:2] != "__" for k in _names(rpc, "__kind__", name, call)):
            found.append(name)
    return found


def fitting(rpc: Rpc, pattern: str) -> list[str]:
    """`find`, for whoever named a pattern: raises NotFoundError when it fits none."""
    found = find(rpc, pattern)
    if not found and pattern != EVERY:
        raise NotFoundError(
            f"no namespace with data fits {pattern!r}; check the pattern (* stands for any text), "
            "or take all of them with --all-namespaces"
        )
    return found


def _names(rpc: Rpc, kind: str, namespace: str, call: Call[Any] | None) -> Iterator[str]:
    """What a metadata query lists; `call`: its first page, under way.

    The default namespace has no name (its key has the id 1).
    """
    query = _metadata(kind)
    call = call or rpc.run_query(query, namespace)
    for result in rpc.results_from(call, query, namespace):
        yield result.entity.key.path[-1].name


def _metadata(kind: str) -> Any:
    return kind_query(kind, keys_only=True, limit=_PAGE)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """`tenant-2` before `tenant-10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)
