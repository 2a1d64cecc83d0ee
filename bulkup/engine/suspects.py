"""Entities that were not done when they were read, until they are read again a moment later.

Live writers change entities in steps, and restore what a run has changed. So an entity counts as
not done only if nobody has changed it for RECHECK_S, or if it was not done in MAX_LOOKS reads in a
row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulkup.core.model import Failure
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.pages import page_result
from bulkup.datastore.rpc import Rpc
from bulkup.engine.judge import Judge, Judged
from bulkup.engine.scan import QueryPlan

RECHECK_S = 1.0
"""A live writer's steps of one change are much closer together."""

MAX_LOOKS = 8

AT_ONCE = 200
"""Entities that are read again by one call; or by as many calls at once, if the query must be asked
for each entity."""

MAX_WAITING = 10_000
"""Memory must not grow with the number of entities, so nothing is read while this many wait."""


@dataclass
class Span:
    """Neighbours of one shard, of which some may have to be read again."""

    range_id: int
    cursor: bytes
    """The cursor of the last one."""
    handled: int
    vanished: int = 0
    done_since: int = 0
    unsteady: int = 0
    open: int = 0
    """How many of them have to be read again."""
    found: list[tuple[Failure, bool]] = field(default_factory=list)
    """Entities that are not done, and whether each is young."""


@dataclass
class _Suspect:
    key: bytes
    version: int
    digest: bytes
    failure: Failure
    young: bool
    span: Span
    due: float
    looks: int = 1


class Suspects:
    """`is_young`: whether the entity of a PageResult is young (`Reading.since_ns`)."""

    def __init__(
        self, query: QueryPlan, rpc: Rpc, judge: Judge, is_young: Callable[[Any], bool]
    ) -> None:
        self._query = query
        self._rpc = rpc
        self._judge = judge
        self._is_young = is_young
        self._waiting: deque[_Suspect] = deque()
        """Ordered by when they are due."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def wait_s(self) -> float:
        """Seconds until the next one is due; infinite if none is waiting."""
        if not self._waiting:
            return float("inf")
        return max(0.0, self._waiting[0].due - self._rpc.monotonic())

    def add(self, judged: Judged, span: Span) -> None:
        result, failure = judged.result, judged.item.failure
        assert failure is not None
        due = self._rpc.monotonic() + RECHECK_S
        key = bytes(result.entity.key)
        young = self._is_young(result)
        self._waiting.append(
            _Suspect(key, result.version, judged.digest, failure, young, span, due)
        )
        span.open += 1

    def look_again(self) -> int:
        """Read those that are due, and settle what can be settled. Returns how many were read.

        Raises CallError.
        """
        now = self._rpc.monotonic()
        due: list[_Suspect] = []
        while self._waiting and self._waiting[0].due <= now and len(due) < AT_ONCE:
            due.append(self._waiting.popleft())
        if not due:
            return 0
        results = self._read(due)
        there = [key for key in (one.key for one in due) if key in results]
        judged = self._judge.judge([results[key] for key in there])
        by_key = dict(zip(there, judged, strict=True))
        for one in due:
            self._settle(one, by_key.get(one.key))
        return len(due)

    def _settle(self, one: _Suspect, again: Judged | None) -> None:
        span = one.span
        if again is None:
            span.vanished += 1
        elif again.item.failure is None:
            span.done_since += 1
        else:
            same = one.version == again.result.version
            if not same and one.looks + 1 < MAX_LOOKS:
                one.version, one.digest = again.result.version, again.digest
                one.failure, one.looks = again.item.failure, one.looks + 1
                one.due = self._rpc.monotonic() + RECHECK_S
                self._waiting.append(one)
                return
            span.unsteady += same and again.digest != one.digest
            young = one.young or self._is_young(again.result)  # it may have been created anew
            span.found.append((again.item.failure, young))
        span.open -= 1

    def _read(self, due: Sequence[_Suspect]) -> dict[bytes, Any]:
        """The PageResults of those that the query still finds, by key."""
        if self._query.keys_only:
            return self._ask([one.key for one in due])
        keys = {key_bytes(key_of(one.key)): one for one in due}
        found = {
            keys[key].key: page_result(result)
            for key, result in self._rpc.lookup([key_of(one.key) for one in due]).items()
        }
        if not self._query.has_filters:
            return found
        # An entity that nobody has changed matches as it did before.
        changed = [
            one.key for one in due if one.key in found and found[one.key].version != one.version
        ]
        still = self._ask(changed)
        for key in changed:
            if key in still:
                found[key] = still[key]
            else:
                del found[key]
        return found

    def _ask(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Ask the query for each of these keys."""
        namespace = self._query.namespace
        calls = [self._rpc.page(self._query.narrowed_to(key_of(key)), namespace) for key in keys]
        answers = [call.result().batch.entity_results for call in calls]
        return {key: found[0] for key, found in zip(keys, answers, strict=True) if found}
