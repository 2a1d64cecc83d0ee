"""Reads every entity of a query and judges it; writes nothing.

Several key ranges are read at once, in one thread, at the rate of a run. What is not done is read
again a moment later (`suspects.py`). A range advances only when everything before that point is
settled, so whoever continues it later begins there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulkup.core.model import Counts, Failure, RunState
from bulkup.core.records import Shard
from bulkup.core.stop import Stopped
from bulkup.datastore.pages import created_ns
from bulkup.datastore.rpc import Rpc
from bulkup.engine.control import Control
from bulkup.engine.dry_run import SeenKeys
from bulkup.engine.judge import Judge
from bulkup.engine.scan import QueryPlan, Scan
from bulkup.engine.suspects import Span, Suspects
from bulkup.engine.throttle.rate import RateLimiter


@dataclass(frozen=True)
class Reading:
    """What is read, and how."""

    query: QueryPlan
    rpc: Rpc
    rate: RateLimiter
    control: Control
    batch_size: int
    entity_bytes: int
    since_ns: int
    """Entities created after this are young."""
    width: int
    """Ranges that are read at once."""


@dataclass
class Tallies:
    """What is settled so far."""

    counts: Counts = field(default_factory=Counts)
    """`failed` counts entities that are not done, without the young ones."""
    young: int = 0
    done_since: int = 0
    unsteady: int = 0
    tells_births: bool = True

    def count(self, *, handled: int, vanished: int, done_since: int, unsteady: int) -> None:
        self.counts += Counts(handled=handled, vanished=vanished)
        self.done_since += done_since
        self.unsteady += unsteady

    def found(self, _: Failure, young: bool) -> None:
        if young:
            self.young += 1
        else:
            self.counts += Counts(failed=1)


class _Range:
    """One key range: its page, and the spans of it that are not settled yet."""

    def __init__(self, shard: Shard, reading: Reading) -> None:
        self.id = shard.id
        self.scan = Scan(
            reading.rpc, reading.query, shard, reading.batch_size,
            entity_bytes=reading.entity_bytes,
        )  # fmt: skip
        self.page: Sequence[Any] = ()
        self.spans: deque[Span] = deque()

    @property
    def is_read(self) -> bool:
        return self.scan.is_over and not self.page


class Verification:
    """`ranges`: what is left to read, each after its `low_cursor`. `settled` is called with each
    span when nothing in it or before it is open, `range_done` with the id of a range."""

    def __init__(
        self,
        reading: Reading,
        judge: Judge,
        ranges: Sequence[Shard],
        settled: Callable[[Span], None],
        range_done: Callable[[int], None],
        tallies: Tallies,
    ) -> None:
        self._reading = reading
        self._judge = judge
        self._waiting = deque(ranges)
        self._active: deque[_Range] = deque()
        self._tallies = tallies
        self._settled = settled
        self._range_done = range_done
        self._suspects = Suspects(reading.query, reading.rpc, judge, self._is_young)
        self._seen: SeenKeys | None = None
        self._rate_wait_s = math.inf

    def run(self) -> None:
        """Read to the end. Raises CallError, and Stopped: at a limit, after what was found is
        settled; on a signal, at once."""
        try:
            if self._reading.query.ranged:
                with SeenKeys() as self._seen:  # such a query may return an entity twice
                    self._read_all()
            else:
                self._read_all()
        finally:
            for one in self._active:
                one.scan.close()

    def _read_all(self) -> None:
        rpc, control = self._reading.rpc, self._reading.control
        try:
            while self._fill():
                rpc.arrived.clear()
                self._rate_wait_s = math.inf
                moved = False
                for one in list(self._active):
                    moved = self._step(one) or moved
                self._active.rotate(-1)  # so that no range is always the last
                moved = self._look_again() or moved
                self._advance()
                if self._active or self._waiting:
                    control.check()
                if not moved:
                    rpc.wait(min(self._rate_wait_s, self._suspects.wait_s()))
        except Stopped as stopped:
            if stopped.state is not RunState.STOPPED:
                raise
            while self._suspects:
                self._look_again()
                self._advance()
                rpc.nap(self._suspects.wait_s() if self._suspects else 0.0)
                if control.is_interrupted:
                    raise control.interrupted() from None
            raise

    def _look_again(self) -> bool:
        count = self._suspects.look_again()
        if count:
            self._reading.rate.spend(count)
        return count > 0

    def _fill(self) -> bool:
        reading = sum(not one.is_read for one in self._active)
        while self._waiting and reading < self._reading.width:
            self._active.append(_Range(self._waiting.popleft(), self._reading))
            reading += 1
        return bool(self._active)

    def _step(self, one: _Range) -> bool:
        """Judge some entities of a range, if they have arrived and the rate allows it."""
        reading = self._reading
        if self._suspects.is_full:
            return False
        if not one.page and one.scan.is_ready:
            one.page = one.scan.take()
        if not one.page:
            return False
        left = reading.control.limit - reading.control.handled
        size = min(reading.rate.batch_size(reading.batch_size), left)
        if size < 1:
            return False
        one.scan.page_size = reading.rate.batch_size(reading.batch_size)
        results = one.page[: int(size)]
        wait_s = reading.rate.wait_s(len(results))
        if wait_s > 0:
            self._rate_wait_s = min(self._rate_wait_s, wait_s)
            return False
        reading.rate.spend(len(results))
        one.spans.append(self._judged(one.id, results))
        one.page = one.page[int(size) :]
        return True

    def _judged(self, range_id: int, results: Sequence[Any]) -> Span:
        control, seen = self._reading.control, self._seen
        new = results
        if seen is not None:
            new = [result for result in results if seen.add(result.entity.key)]
        span = Span(range_id, results[-1].cursor, len(new))
        for judged in self._judge.judge(new, self._check_stop):
            if judged.is_done:
                continue
            self._suspects.add(judged, span)
        control.handled += len(new)
        return span

    def _is_young(self, result: Any) -> bool:
        created = created_ns(result)
        self._tallies.tells_births = self._tallies.tells_births and created > 0
        return created > self._reading.since_ns

    def _check_stop(self) -> None:
        control = self._reading.control
        if self._reading.rpc.monotonic() >= control.next_check:
            control.check()

    def _advance(self) -> None:
        """Report what is settled, and the ranges that are done."""
        for one in list(self._active):
            while one.spans and not one.spans[0].open:
                span = one.spans.popleft()
                self._settled(span)
            if one.is_read and not one.spans:
                self._active.remove(one)
                self._range_done(one.id)
