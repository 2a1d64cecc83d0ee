"""What the engine needs from a handler, whichever form of updater it calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.engine.handled import Handled
from bulkup.engine.hints import Hints
from bulkup.engine.previewed import Previewed


class AnyHandler(Protocol):
    """Calls an updater. What the user's code raises becomes the failure of an entity; see
    `Handler.handle` for what the methods raise."""

    hints: Hints
    moves: bool
    """A write has changed a property that the query orders or ranges on."""

    @property
    def previewed(self) -> Previewed | None:
        """What a dry run would have written."""

    @property
    def requests(self) -> int:
        """How many requests the handler's reads have sent so far, one after the other."""

    @property
    def commits_itself(self) -> bool:
        """The handler writes through its client, after reads."""

    @property
    def handled(self) -> LazyEntity:
        """The entity whose outcome was yielded or returned last."""

    def open(self) -> AbstractContextManager[None]:
        """Let the updater put, delete and log for as long as this is open."""

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        """Handle a PageResult with this serialized key. Call it while `open`."""

    def handle_many(self, results: Iterable[Any]) -> Iterator[Handled]:
        """Handle PageResults and yield their outcomes in the same order. Call it while `open`."""

    def forget_reads(self) -> None:
        """Forget what was read: the next call reads it again."""

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity again, with what was just read. The first outcome is forgotten."""

    def handle_once_more(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        """`handle`, after a write of the same entity was refused as a conflict."""

    def watch_client(self, on_commit: Callable[[], None] | None) -> None:
        """Have `on_commit` called before a handler writes through its client."""
