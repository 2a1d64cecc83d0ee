"""What the run needs from workers that handle entities elsewhere: processes, or an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from bulkup.datastore.call_error import CallError
from bulkup.engine.handled import Handled


class HandedOut(Protocol):
    """Entities on their way to a worker and back."""

    knows: int
    ticket: int
    """How many entities had landed when these were handed out."""
    is_added: bool
    error: CallError | None
    """An error of a handler's own reads."""
    whole: bool
    """All of its entities were handled."""

    @property
    def count(self) -> int: ...

    @property
    def items(self) -> Sequence[Any]: ...

    def done(self) -> bool: ...

    def result(self) -> list[Handled]:
        """The handled entities, in order: fewer than `count` after a stop or an error."""


class Workers(Protocol):
    most_chunks: int
    """The most chunks per shard, so that memory stays bounded while its commits are slow."""
    max_chunk: int
    """Entities in a chunk, at most."""
    at_once: bool
    """Neighbours are handled at the same time, so one may read what another one is about to write.
    """
    on_client_commit: Callable[[], None]
    on_reads: Callable[[int, int], None]
    """Called with a number of entities, and the requests for reads that their handlers have
    sent."""
    on_hints: Callable[[Iterable[tuple[Any, ...]]], None]

    @property
    def moves(self) -> bool: ...

    def has_room(self) -> bool: ...

    def submit(self, entities: Sequence[Any], most: float) -> HandedOut: ...

    def handle_again(self, item: Handled, result: Any) -> None: ...

    def collect(self) -> None: ...

    def pump(self) -> None: ...
