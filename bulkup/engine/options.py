"""How a runner works: what the command line's options come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bulkup.core.errors import UsageError
from bulkup.engine.batches import MAX_BATCH_SIZE
from bulkup.engine.throttle.concurrency import MAX_DEPTH
from bulkup.engine.throttle.rate import MaxRate

AUTO_SHARDS = 8
"""On a real project, where a page costs its way there and back."""

MAX_SHARDS = 64
MAX_PROCESSES = 64


_LASTING = ("batch_size", "in_flight", "shards", "processes", "max_rate", "max_failures")


@dataclass(frozen=True)
class Options:
    """How a runner works; nothing here changes what a run does."""

    batch_size: int = MAX_BATCH_SIZE
    in_flight: int | None = None
    """Commits of a shard under way at once. None: as many as keep the reading going."""
    shards: int | None = None
    """Stretches of the query worked on at once. None: several on a real project."""
    max_rate: MaxRate = field(default_factory=MaxRate)
    processes: int = 1
    """Worker processes that run the updater; 1: it runs in this one."""
    limit: int | None = None
    """Entities to handle before stopping."""
    max_time_s: float | None = None
    retry_for_s: float = 600.0
    conflict_retries: int = 8
    max_failures: int | None = None
    """None: what the updater says."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError: the command line checks its own, Python has only this."""
        for name, value, low, high in (
            ("batch_size", self.batch_size, 1, MAX_BATCH_SIZE),
            ("in_flight", self.in_flight, 1, MAX_DEPTH),
            ("shards", self.shards, 1, MAX_SHARDS),
            ("processes", self.processes, 1, MAX_PROCESSES),
            ("limit", self.limit, 1, math.inf),
            ("retry_for_s", self.retry_for_s, 0, math.inf),
            ("conflict_retries", self.conflict_retries, 0, math.inf),
            ("max_failures", self.max_failures, -1, math.inf),
        ):
            if value is not None and not low <= value <= high:
                at_most = f" and at most {high}" if high < math.inf else ""
                raise UsageError(f"{name} is {value}; it has to be at least {low}{at_most}")

    def asked(self) -> dict[str, Any]:
        """What is not as it is by default, of what every runner of a run should have; goes to where
        JSON goes, and to `or_as` from there."""
        plain = Options()
        asked = {
            name: getattr(self, name)
            for name in _LASTING
            if getattr(self, name) != getattr(plain, name)
        }
        if "max_rate" in asked:
            asked["max_rate"] = str(asked["max_rate"])
        return asked

    def or_as(self, asked: Mapping[str, Any]) -> Options:
        """These, and what an earlier runner was asked for where they are as by default."""
        missing = {name: asked[name] for name in asked.keys() - self.asked().keys()}
        if "max_rate" in missing:
            missing["max_rate"] = MaxRate.parse(missing["max_rate"])
        return replace(self, **missing)

    def words(self) -> list[str]:
        """`asked` as it is typed."""
        return [
            word
            for name, value in self.asked().items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
