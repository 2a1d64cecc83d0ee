"""While the user's code runs: where its writes go, its context, and its client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from bulkup.authoring import call_threads
from bulkup.authoring.call_threads import handling
from bulkup.authoring.updater import Models, Updater
from bulkup.authoring.writes import WriteSink

if TYPE_CHECKING:
    from google.cloud.datastore import Client

    from bulkup.core.events import Report

_handling: ContextVar[Updater[Any] | None] = ContextVar("_handling", default=None)
"""The updater whose handler is running."""


@contextmanager
def in_hook(updater: Updater[Any], name: str) -> Iterator[None]:
    """Within this block, the updater's method of this name runs. It handles no entity."""
    updater._in_hook = name
    try:
        with surroundings(updater):
            yield
    finally:
        updater._in_hook = ""


def surroundings(updater: Updater[Any]) -> AbstractContextManager[Any]:
    """The context in which the user's code runs: the one that its models need, if any."""
    return nullcontext() if updater._models is None else updater._models.context()


def finish(updater: Updater[Any], report: Report) -> None:
    """Call the updater's `finish`. Raises what that raises."""
    with in_hook(updater, "finish"):
        updater.finish(report.success, report)


@contextmanager
def writing_to(sink: WriteSink, updater: Updater[Any]) -> Iterator[None]:
    """Send the updater's writes to `sink` within this block."""

    def share() -> None:
        updater._has_threads, updater._sink = True, None

    before = updater._open_sink, updater._sink
    updater._open_sink = sink
    updater._sink = None if sink.serves_many else sink
    sink.on_share = share
    if updater._has_threads and not sink.serves_many:
        sink.share()
    token = _handling.set(updater)
    try:
        with (
            handling(None if sink.serves_many else sink),
            nullcontext() if sink.serves_many else surroundings(updater),
        ):
            yield
    finally:
        _handling.reset(token)
        updater._open_sink, updater._sink = before


def begin_task(sink: WriteSink, updater: Updater) -> None:
    """Note that this task handles the entity that the sink has begun with."""
    _handling.set(updater)
    call_threads.begin_task(sink)


def client() -> Client:
    """For function updaters: the `google.cloud.datastore.Client` for the run's target, which is
    `self.client` in a class. What a handler reads with it guards what the handler writes.

    Raises RuntimeError unless a handler runs, and on threads that the handler has started.
    """
    updater = _handling.get()
    if updater is None:
        raise RuntimeError(
            "bulkup.client works only while bulkup runs a handler, on the handler's own thread; "
            "pass the client on to other threads, and in a test call "
            "bulkup.testing.handle(updater, entity)"
        )
    return updater.client


def models_of_running_handler() -> Models | None:
    """The models of the handler on this thread; None if none runs or if it takes entities."""
    updater = _handling.get()
    return None if updater is None else updater._models
