"""Find the namespaces that have data and match a pattern."""

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

ALL_NAMESPACES = "*"
"""The pattern of `--all-namespaces`."""

MAX_IN_FLIGHT = 16
"""Namespaces whose kinds are queried at the same time. Each answer is a few rows."""

_PAGE_SIZE = 300


def display_name(namespace: str) -> str:
    """The name to show to people. The default namespace has the empty name."""
    return namespace or "(default)"


def find_namespaces(rpc: Rpc, pattern: str, *, known: Iterable[str] = ()) -> list[str]:
    """The namespaces that match a pattern and have data of the users', in natural order.

    Those in `known` are left out without a request. The pattern takes `*`, `?` and `[abc]`, and is
    case-sensitive; the name of the default namespace is the empty string. Raises TargetError when
    the server cannot list namespaces, CallError.
    """
    left_out = set(known)
    try:
        all_names = list(_names(rpc, "__namespace__", "", None))
    except CallError as error:
        if not error.is_unsupported:
            raise
        raise TargetError(
            "this server cannot list its namespaces (the Firestore emulator cannot); run the "
            "command once for each namespace, with --namespace NAME",
            details=error.details,
        ) from error
    names = [n for n in all_names if fnmatchcase(n, pattern) and n not in left_out]
    waiting = deque(sorted(names, key=_natural))
    in_flight: deque[tuple[str, Call[Any]]] = deque()
    found = []
    while waiting or in_flight:
        while waiting and len(in_flight) < MAX_IN_FLIGHT:
            name = waiting.popleft()
            in_flight.append((name, rpc.run_query(_metadata("__kind__"), name)))
        name, call = in_flight.popleft()
        # Nothing but bulkup's own records: the namespace was emptied. The service has statistics
        # under kinds named `__Stat_...__`.
        if any(k not in OWN_KINDS and k[:2] != "__" for k in _names(rpc, "__kind__", name, call)):
            found.append(name)
    return found


def match_namespaces(rpc: Rpc, pattern: str) -> list[str]:
    """`find_namespaces`, but a pattern that matches none raises NotFoundError."""
    found = find_namespaces(rpc, pattern)
    if not found and pattern != ALL_NAMESPACES:
        raise NotFoundError(
            f"no namespace with data matches {pattern!r}; check the pattern (* matches any "
            "string), or use --all-namespaces"
        )
    return found


def _names(rpc: Rpc, kind: str, namespace: str, call: Call[Any] | None) -> Iterator[str]:
    """The names that a metadata query returns. `call`: its first page, if already in flight.

    The default namespace has no name (its key has the id 1).
    """
    query = _metadata(kind)
    call = call or rpc.run_query(query, namespace)
    for result in rpc.results_from(call, query, namespace):
        yield result.entity.key.path[-1].name


def _metadata(kind: str) -> Any:
    return kind_query(kind, keys_only=True, limit=_PAGE_SIZE)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """`tenant-2` before `tenant-10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)
