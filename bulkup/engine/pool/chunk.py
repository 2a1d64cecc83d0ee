"""A chunk: the entities that a worker gets at a time."""

from __future__ import annotations

from typing import Any

from bulkup.datastore.call_error import CallError
from bulkup.engine.handled import Handled
from bulkup.engine.pool import protocol


class Chunk:
    """A chunk on its way to a worker and back. `count`: how many entities it has. `first_key` and
    `last_key` are serialized."""

    __slots__ = (
        "count",
        "error",
        "first_key",
        "is_added",
        "is_done",
        "items",
        "knows",
        "last_key",
        "number",
        "ticket",
        "whole",
    )

    def __init__(self, number: int, count: int, first_key: bytes, last_key: bytes) -> None:
        self.number = number
        self.count = count
        self.first_key = first_key
        self.last_key = last_key
        self.knows = 0
        """How many landings of foreign keys there were before the page of its entities was
        requested."""
        self.ticket = 0
        self.is_added = False
        self.is_done = False
        self.items: list[tuple[Any, ...]] = []
        self.whole = False
        """All of its entities were handled."""
        self.error: CallError | None = None

    def done(self) -> bool:
        return self.is_done

    def result(self) -> list[Handled]:
        """The handled entities, in order: fewer than `count` after a stop or an error."""
        return [protocol.unpacked(item) for item in self.items]
