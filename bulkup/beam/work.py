"""The transform that works on ranges: takes range ids, returns the result for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.timestamp import Duration

from bulkup.beam.turn import Turn, Turns
from bulkup.beam.workers import workers
from bulkup.core.errors import BulkupError
from bulkup.runs.ranges.unit import RangedWork, RangeEnd, RangeResult, WorkingRange

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""How long to leave a held range alone. Its lease ends by the server's clock; this machine's may be
wrong by hours."""

REST_S = 2.0
"""The longest time to block a runner's thread for a range that came back too early."""

BUSY_S = 5.0
"""How long to wait while this process works on another range, before the runner may take the range
elsewhere."""


class WorkOnRanges(beam.PTransform):  # type: ignore[misc]
    """Works on the ranges of a run. The input is their ids. The output is a RangeResult for each
    range that is finished or stopped, possibly several times."""

    def __init__(self, work: RangedWork) -> None:
        super().__init__()
        self._work = work

    def expand(self, range_ids: Any) -> Any:
        return range_ids | beam.Reshuffle() | "Work" >> beam.ParDo(WorkOnRange(self._work))


class WorkOnRange(beam.DoFn):  # type: ignore[misc]
    """Works on one range. It does not raise for what the updater does, nor for a range that another
    worker holds: such a range comes back when its lease has expired."""

    def __init__(self, work: RangedWork) -> None:
        self._work = work

    def setup(self) -> None:
        workers.set_up()

    def teardown(self) -> None:
        workers.tear_down()

    def process(
        self,
        element: str,
        tracker: Any = beam.DoFn.RestrictionParam(Turns()),  # noqa: B008  # Beam's way
    ) -> Iterator[RangeResult]:
        turn: Turn = tracker.current_restriction()
        while not turn.comes_back:
            result, rest_s = self._ask(turn, tracker)
            if result is not None:
                yield result
                return
            time.sleep(rest_s)
        result, rest_s = None, min(turn.not_before - time.time(), LONGEST_S)
        if rest_s > 0:
            time.sleep(min(rest_s, REST_S))
            rest_s -= REST_S
        if rest_s <= 0:
            result, rest_s = self._ask(turn, tracker)
        if result is not None:
            yield result
        else:
            tracker.try_claim(time.time() + rest_s)
            tracker.defer_remainder(Duration(seconds=rest_s))

    def _ask(self, turn: Turn, tracker: Any) -> tuple[RangeResult | None, float]:
        """The result for the range, and 0; or None, and after how many seconds to ask again."""
        with workers.alone(wait_s=BUSY_S) as free:
            working = WorkingRange()
            if not free or not tracker.try_claim(working):
                return None, SHORTEST_S
            try:
                result = workers.work_on(self._work, turn.range_id, working)
            except BulkupError as error:
                # Every worker would fail in the same way, and the records cannot show it. The
                # runner shows this message and tries again, as its users expect.
                raise RuntimeError(error.message) from error
            finally:
                tracker.try_claim(0.0)
        if result.end is not RangeEnd.HELD:
            return result, 0.0
        return None, min(max(result.held_until - time.time(), SHORTEST_S), LONGEST_S)
