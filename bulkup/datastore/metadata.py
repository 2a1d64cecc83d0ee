"""Metadata queries: which namespaces and kinds a Datastore has.

Two emulators answer them; the Firestore emulator refuses (INVALID_ARGUMENT).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from bulkup.datastore.call import Call
from bulkup.datastore.queries import kind_query
from bulkup.datastore.rpc import Rpc

MAX_IN_FLIGHT = 16
"""Namespaces whose kinds are queried at the same time. Each answer is a few rows."""

_PAGE_SIZE = 300


def namespace_names(rpc: Rpc) -> Iterator[str]:
    """All namespaces. The default namespace has the empty name (its key has the id 1).

    Raises CallError.
    """
    return _names(rpc, "__namespace__", "", None)


def kind_names(rpc: Rpc, namespaces: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """The kinds of each namespace, without the service's statistics, whose kinds have names like
    `__Stat_Kind__`. Read all kinds of one namespace before the next. Raises CallError."""
    waiting = deque(namespaces)
    in_flight: deque[tuple[str, Call[Any]]] = deque()
    while waiting or in_flight:
        while waiting and len(in_flight) < MAX_IN_FLIGHT:
            name = waiting.popleft()
            in_flight.append((name, rpc.run_query(_query("__kind__"), name)))
        name, call = in_flight.popleft()
        yield name, (kind for kind in _names(rpc, "__kind__", name, call) if kind[:2] != "__")


def _names(rpc: Rpc, kind: str, namespace: str, call: Call[Any] | None) -> Iterator[str]:
    """The names that a metadata query returns. `call`: its first page, if already in flight."""
    query = _query(kind)
    call = call or rpc.run_query(query, namespace)
    for result in rpc.results_from(call, query, namespace):
        yield result.entity.key.path[-1].name


def _query(kind: str) -> Any:
    return kind_query(kind, keys_only=True, limit=_PAGE_SIZE)
