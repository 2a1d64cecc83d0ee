"""Handles the entities of a plan, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.core.changes import WouldChange
from bulkup.core.errors import StopAskedError
from bulkup.core.failure_groups import FailureGroups
from bulkup.core.max_failures import MaxFailures
from bulkup.core.model import Counts, Failure, TargetInfo
from bulkup.core.plan import Drawn, Estimate, Hazard, PlanWarning, Predicted, Total
from bulkup.core.records import Shard
from bulkup.core.stop import Stopped
from bulkup.datastore.messages import KeyPb
from bulkup.datastore.rpc import Rpc
from bulkup.engine.accounts import Accounts
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.batches import MAX_BATCH_SIZE
from bulkup.engine.budget import Budget
from bulkup.engine.control import Control
from bulkup.engine.dry_run import SeenKeys
from bulkup.engine.event_log import EventLog
from bulkup.engine.key_handler import make_handler
from bulkup.engine.moved_entities import MoveWatch
from bulkup.engine.planning.again import Results
from bulkup.engine.planning.change_kinds import ChangeKinds
from bulkup.engine.planning.draw import Sample, count, draw, drawn_pages, is_plain_kind
from bulkup.engine.planning.hazards import distance_warnings, query_warnings
from bulkup.engine.planning.sink import PlanSink
from bulkup.engine.progress import ProgressTracker
from bulkup.engine.scan import QueryPlan, Scan
from bulkup.engine.slow_handler import SlowHandler
from bulkup.engine.task import Surroundings
from bulkup.engine.together import in_process
from bulkup.engine.unwritten import UnwrittenChanges
from bulkup.state.kinds import OWN_KINDS

MANY_KEYS = 1_000_000
"""Reading this many keys takes 10 seconds or more."""

ROUND_TRIPS = 3
"""How many round trips are measured; the shortest counts."""


@dataclass(frozen=True)
class PlannedTask:
    updater: Updater
    query: QueryPlan
    rpc: Rpc
    target: TargetInfo
    entity_bytes: int
    """Expected size of an entity; 0: unknown."""
    sample: int | None
    """How many entities to handle; None: all."""
    seed: int = 0
    """The random seed: the same seed and the same data give the same plan."""


@dataclass(frozen=True)
class EveryWrite:
    """Receives every write and every failure, not only the first of each kind."""

    change: Callable[[WouldChange], None]
    failure: Callable[[Failure], None]


@dataclass(frozen=True)
class Findings:
    """What the handled entities have shown."""

    drawn: Drawn
    handled: int
    matching: int
    matching_is: Total
    counts: Counts
    predicted: Predicted
    reads: Estimate
    """Reads by the handlers themselves."""
    kinds: ChangeKinds
    failures: FailureGroups
    first_failure: Failure | None
    warnings: tuple[PlanWarning, ...]
    speed: float
    """Entities read and handled per second; 0 if there were none."""
    round_trip_s: float


class Planner:
    def __init__(
        self, task: PlannedTask, surroundings: Surroundings, every: EveryWrite | None = None
    ) -> None:
        updater, rpc, options = task.updater, task.rpc, surroundings.options
        self._task = task
        self._rpc = rpc
        self._query = task.query
        self._every = every
        self._clock = surroundings.clock
        self._random = Random(task.seed)  # noqa: S311 - a sample, no secret
        self._warnings: list[PlanWarning] = []
        self._event_log = EventLog(surroundings.listener)
        self._progress = ProgressTracker(
            self._event_log, self._clock, Counts(), unanswered=rpc.unanswered,
            handled=lambda: self._control.handled,
        )  # fmt: skip
        self._control = Control(
            surroundings.stop, limit=None, max_time_s=None, monotonic=self._clock.monotonic,
            on_check=self._progress.tick, can_resume=False,
        )  # fmt: skip
        self._unwritten = UnwrittenChanges(updater, lambda: self._progress.counts)
        budget = Budget(MaxFailures(-1), 0, self._failed)
        accounts = Accounts(budget, self._control, self._event_log.log, rpc.monotonic)
        self._handler = make_handler(updater, self._query, rpc, keeps_before=True)
        slow = SlowHandler(options, lambda message, _: self._warn(Hazard.OTHER, message))
        self._handlers = in_process(self._handler, accounts, slow)
        rpc.on_tick = self._progress.tick
        rpc.on_retry = self._progress.retrying

    def _warn(self, hazard: Hazard, message: str) -> None:
        self._warnings.append(PlanWarning(hazard, message))

    def _failed(self, failure: Failure, failed: int, allowed: int) -> None:
        self._event_log.failed(failure, failed, allowed)
        if self._every is not None:
            self._every.failure(failure)

    def plan(self) -> Findings:
        """Raises CallError, HeldError, StopAskedError."""
        try:
            return self._plan()
        except Stopped as stopped:
            raise StopAskedError(
                f"{stopped.reason} before the plan was complete; nothing was written",
                stopped.exit_code,
            ) from None
        finally:
            self._progress.close()
            if isinstance(self._handler, AsyncHandler):
                self._handler.close()

    def _plan(self) -> Findings:
        round_trip_s = min(self._round_trips())
        wanted = self._task.sample
        total = count(self._rpc, self._query, self._control.check)
        drawn: Sample | None = None
        if wanted is not None and (total is None or total > wanted):
            if total is not None and total > MANY_KEYS and not is_plain_kind(self._query):
                self._event_log.warn(
                    f"the keys of {total:,} entities are read, so that each has the same chance to "
                    "be drawn; --full handles all of them instead"
                )
            drawn = draw(self._rpc, self._query, wanted, total, self._random, self._control.check)
            total = drawn.total
        self._progress.total = total if drawn is None else len(drawn.keys)
        results = Results(self._query, self._random)
        with ExitStack() as stack:
            previewed = self._handler.previewed
            assert previewed is not None
            sink = PlanSink(
                self._rpc, previewed, results,
                on_change=None if self._every is None else self._every.change,
                on_done=self._progress.add,
                unwritten=self._unwritten,
                created=stack.enter_context(SeenKeys()),
                seen=stack.enter_context(SeenKeys()) if self._query.ranged else None,
            )  # fmt: skip
            took_s = self._handle_all(sink, drawn)
        counts, handled = sink.counts, sink.counts.handled
        if drawn is None or drawn.drawn is Drawn.ALL:
            matching, matching_is = handled, Total.READ
        else:
            matching, matching_is = max(drawn.total, handled), drawn.total_is
        self._look_back(sink, results, counts, round_trip_s)
        return Findings(
            drawn=Drawn.ALL if drawn is None else drawn.drawn,
            handled=handled,
            matching=matching,
            matching_is=matching_is,
            counts=counts,
            predicted=sink.predicted(matching),
            reads=sink.estimate("reads", matching),
            kinds=sink.kinds,
            failures=self._event_log.groups,
            first_failure=next(iter(self._event_log.failures), None),
            warnings=tuple(self._warnings),
            speed=handled / took_s if handled and took_s > 0 else 0.0,
            round_trip_s=round_trip_s,
        )

    def _handle_all(self, sink: PlanSink, drawn: Sample | None) -> float:
        """Handle the entities. Returns the seconds that it took."""
        started = self._clock.monotonic()
        for page in self._scanned() if drawn is None else self._drawn(drawn, sink):
            self._handlers.handle(page, sink)
            sink.flush()
            self._control.check()
        return self._clock.monotonic() - started

    def _scanned(self) -> Iterator[Sequence[Any]]:
        scan = Scan(
            self._rpc, self._query, Shard(1), MAX_BATCH_SIZE, entity_bytes=self._task.entity_bytes
        )
        try:
            while not scan.is_over:
                yield scan.take()
        finally:
            scan.close()

    def _drawn(self, drawn: Sample, sink: PlanSink) -> Iterator[Sequence[Any]]:
        for page, vanished in drawn_pages(self._rpc, self._query, drawn.keys):
            sink.vanished(vanished)
            yield page

    def _look_back(
        self, sink: PlanSink, results: Results, counts: Counts, round_trip_s: float
    ) -> None:
        """Collect the warnings."""
        if self._unwritten.is_holding:
            self._warn(Hazard.UNWRITTEN, self._unwritten.error().message)
        elif counts.unwritten:
            self._warn(Hazard.UNWRITTEN, self._unwritten.warning(counts))
        MoveWatch(self._query, lambda message, _: self._warn(Hazard.MOVES, message)).look(
            self._handler
        )
        for hint in self._handlers.hints.taken():
            self._warn(Hazard(hint.kind), hint.message)
        for message, kind in self._handlers.hints.sought.taken():
            self._warn(Hazard(kind.value), message)
        self._warnings += sink.warnings()
        self._warnings += query_warnings(self._query, counts, self._task.target)
        self._warnings += distance_warnings(round_trip_s, self._task.target)
        self._warnings += results.handle_again(self._handler, self._control.check)

    def _round_trips(self) -> Iterator[float]:
        """How long it takes to look up an entity that is not there."""
        key = KeyPb()
        key.partition_id.project_id = self._rpc.project
        if self._rpc.database:
            key.partition_id.database_id = self._rpc.database
        key.path.add(kind=min(OWN_KINDS), name="plan")
        for _ in range(ROUND_TRIPS):
            started = self._clock.monotonic()
            self._rpc.lookup([key])
            yield self._clock.monotonic() - started
