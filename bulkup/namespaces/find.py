"""Find the namespaces that have data and match a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from bulkup.core.errors import NotFoundError, TargetError
from bulkup.datastore.call_error import CallError
from bulkup.datastore.metadata import kind_names, namespace_names
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import OWN_KINDS

ALL_NAMESPACES = "*"
"""The pattern of `--all-namespaces`."""


def display_name(namespace: str) -> str:
    """The name to show to people. The default namespace has the empty name."""
    return namespace or "(default)"


def find_namespaces(rpc: Rpc, pattern: str, *, known: Iterable[str] = ()) -> list[str]:
    """The namespaces that match a pattern and contain user data, in natural order.

    Those in `known` are left out without a request. The pattern takes `*`, `?` and `[abc]`, and is
    case-sensitive; the name of the default namespace is the empty string. Raises TargetError if the
    server cannot list namespaces, CallError.
    """
    left_out = set(known)
    try:
        all_names = list(namespace_names(rpc))
    except CallError as error:
        if not error.is_unsupported:
            raise
        raise TargetError(
            "this server cannot list its namespaces (the Firestore emulator cannot); run the "
            "command once for each namespace, with --namespace NAME",
            details=error.details,
        ) from error
    names = [n for n in all_names if fnmatchcase(n, pattern) and n not in left_out]
    # A namespace with nothing but bulkup's own records was emptied.
    return [
        name
        for name, kinds in kind_names(rpc, sorted(names, key=_natural))
        if any(kind not in OWN_KINDS for kind in kinds)
    ]


def match_namespaces(rpc: Rpc, pattern: str) -> list[str]:
    """`find_namespaces`, but a pattern that matches none raises NotFoundError."""
    found = find_namespaces(rpc, pattern)
    if not found and pattern != ALL_NAMESPACES:
        raise NotFoundError(
            f"no namespace with data matches {pattern!r}; check the pattern (* matches any "
            "string), or use --all-namespaces"
        )
    return found


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `tenant-2` before `tenant-10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)
