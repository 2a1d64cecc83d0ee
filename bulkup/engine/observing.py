"""Makes spans of what a runner does, for traces and OpenTelemetry, if there is an observer."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.spans import Observer, Span, SpanKind
from bulkup.datastore.rpc import Rpc
from bulkup.engine.stopwatch import Doing, Stopwatch

TookSome = Callable[[float, int], None]


def observe(observer: Observer | None, rpc: Rpc, stopwatch: Stopwatch) -> None:
    """From now on the observer sees the calls of shards, and what the run's thread does."""
    if observer is None:
        rpc.on_answer = None  # the run before this one on the same connection may have had one
        return

    def answered(
        name: str, shard: int, sent_at: float, answered_at: float, entities: int, attempt: int,
        error: str,
    ) -> None:  # fmt: skip
        kind = SpanKind.COMMIT if name == "Commit" else SpanKind.PAGE
        ended = answered_at or rpc.monotonic()
        observer(Span(kind, name, shard, sent_at, ended, entities, attempt, error))

    def did(doing: Doing, began: float, ended: float) -> None:
        if doing is not Doing.NOTHING:
            observer(Span(SpanKind.DOING, doing.name.lower(), 0, began, ended))

    rpc.on_answer, stopwatch.on_end = answered, did


def observed_workers(observer: Observer | None, took: TookSome, rpc: Rpc) -> TookSome:
    """The function to call with how long worker processes took for some entities."""
    if observer is None:
        return took

    def observed(seconds: float, entities: int) -> None:
        now = rpc.monotonic()
        observer(Span(SpanKind.HANDLE, "handle", 0, now - seconds, now, entities))
        took(seconds, entities)

    return observed
