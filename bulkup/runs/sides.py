"""The two sides of a comparison, opened and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlparse

from bulkup.core.clock import Clock
from bulkup.core.errors import TargetError, UsageError
from bulkup.core.moment import NOW, Moment
from bulkup.core.similar import similar_names
from bulkup.datastore.call_error import CallError
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.metadata import kind_names
from bulkup.datastore.past import read_at
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target, resolve
from bulkup.engine.compare.comparison import Scope
from bulkup.engine.compare.side import Side, is_left_out
from bulkup.runs.target import TargetOptions, open_target

RETRY_FOR_S = 60.0


@dataclass(frozen=True)
class SideOptions:
    """A side as the user asked for it."""

    target: TargetOptions
    at: Moment = NOW


@contextmanager
def open_sides(a: SideOptions, b: SideOptions) -> Iterator[tuple[Side, Side]]:
    """Both sides, for reading; a file that another process serves is read through that process.

    Raises BulkupError.
    """
    with ExitStack() as stack:
        first = stack.enter_context(open_target(a.target, only_reads=True))
        if b.target == a.target:
            second = first
        elif first.info.local and _is_same_file(first.info.local, b.target.local):
            options, address = b.target, urlparse(first.client.base_url).netloc
            second = resolve(
                options.project, options.database, options.namespace,
                local=first.info.local, address=address,
            )  # fmt: skip
        else:
            second = stack.enter_context(open_target(b.target, only_reads=True))
        sides = open_side(stack, first, a.at), open_side(stack, second, b.at)
        yield sides


def open_side(stack: ExitStack, target: Target, at: Moment) -> Side:
    """A connection to an open target that reads as of a moment. Raises BulkupError."""
    rpc = stack.enter_context(closing(open_rpc(target, RetryPolicy(RETRY_FOR_S), Clock())))
    with explained(rpc):
        rpc.connect()
        micros = read_at(rpc, at, target.info)
    return Side(rpc, target.info, micros)


def check_scope(scope: Scope) -> None:
    """Raises UsageError."""
    for kind in scope.kinds:
        if not kind:
            raise UsageError("the name of a kind is empty; leave --kind out to compare all kinds")
        if is_left_out(kind.encode()):
            raise UsageError(
                f"{kind} is not a kind of yours; the entities of bulkup and of the server are "
                "left out"
            )
    if scope.where and not scope.kinds:
        raise UsageError("--where needs --kind: only the entities of one kind can be filtered")


def check_something_compared(side: Side, scope: Scope, found: frozenset[str]) -> None:
    """Refuse a comparison of nothing, which must not pass for equality: the kind or the namespace
    may be mistyped.

    `found`: the kinds of which at least one entity was compared. Raises TargetError.
    """
    missing = [kind for kind in scope.kinds if kind not in found]
    if found and not missing:
        return
    if scope.where:
        if found:
            return
        raise TargetError(
            f"no {' or '.join(scope.kinds)} matches --where on either side, so nothing was "
            "compared; a property without an index matches nothing"
        )
    if not scope.kinds:
        raise TargetError(
            f"there are no entities on either side ({side.target}), so nothing was compared; check "
            "the target"
        )
    raise TargetError(
        f"kind {missing[0]!r} has no entities on either side, so nothing was compared"
        f"{_meant(side, missing[0])}; check --kind and the target"
    )


def _meant(side: Side, kind: str) -> str:
    """The hint that a kind with a similar name exists; empty if none does or the server lists no
    kinds."""
    try:
        ((_, kinds),) = kind_names(side.rpc, [side.target.namespace])
        similar = similar_names(kind, kinds)
    except CallError as error:
        if not error.cannot_run_query:
            raise
        return ""
    return f" (there is {similar[0]!r})" if similar else ""


def _is_same_file(one: str, other: str | None) -> bool:
    return other is not None and os.path.realpath(one) == os.path.realpath(other)
