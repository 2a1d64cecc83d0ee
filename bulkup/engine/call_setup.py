"""What all handler calls in a process have in common: the updater, the query, and what is kept."""

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
    """Keep each entity as it was read, for a dry run to compare with."""
    keeps_images: bool = False
    """Note with each write what it replaces."""
    fresh_from: int = 0
    """The first stand-in number for new entities, so that the numbers of several processes do not
    clash."""
    calls: Callable[[Any], Any] | None = None
    """Called with each entity in place of the updater's `handle_entity`."""
    is_done: Callable[[Any], bool] | None = None
    """In a batch, entities for which this returns True are left alone."""
    may_be_absent: bool = False
    """A result may be a key without an entity. Such an entity counts as vanished."""
