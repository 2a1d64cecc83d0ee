"""What all calls of a process's handler have in common: whose they are, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.engine.scan import QueryPlan


@dataclass(frozen=True)
class CallSetup:
    updater: Updater
    query: QueryPlan
    keeps_before: bool = False
    """Keep each entity as it was read; a dry run compares."""
    keeps_images: bool = False
    """Note with each write what it replaces."""
    fresh_from: int = 0
    """The first stand-in number for new entities, so that the numbers of several processes do not
    clash."""
    calls: Callable[[Any], Any] | None = None
    """What is called with each entity in place of the updater's `handle_entity`."""
    is_done: Callable[[Any], bool] | None = None
    """Of a batch, entities of which this is true are left alone."""
    may_be_absent: bool = False
    """What was read may be a key without an entity, which has vanished."""
