"""A run as a transform in your own pipeline."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam

from bulkup.beam.work import WorkOnRanges
from bulkup.beam.workers import workers
from bulkup.core.errors import BulkupError, UsageError
from bulkup.core.events import Event, Report, Warned
from bulkup.engine.options import Options
from bulkup.engine.selecting import selection_of
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.runs.context import RunContext
from bulkup.runs.launch import begin, range_ids, work_of
from bulkup.runs.prepare import prepare
from bulkup.runs.ranges.unit import RangedWork
from bulkup.runs.target import TargetOptions
from bulkup.state.display import DEFAULT_STATE_DIR

_LOG = logging.getLogger(__name__)


class Apply(beam.PTransform):  # type: ignore[misc]
    """Run an updater over every entity of its query, on the workers of a pipeline.

        reports = pipeline | bulkup.beam.Apply("add_full_name.py", params={"sep": "-"})

    The result has one element, the run's `bulkup.Report`, once all ranges are done. Look at
    `report.success`: a run that has stopped, for failures or because the runner has lost work, does
    not fail the pipeline. Applying the transform begins the run, or finds the unfinished run of the
    same work; the pipeline then does what is left. `bulkup resume` can end it on one machine.

    `updater`: as `bulkup run` takes it; its source file is sent to the workers, modules beside it
    are not (Beam's --setup_file sends those). `ranges`: the approximate number of parts that the
    query is cut into. The other arguments are those of `bulkup.run`.

    Raises BulkupError when the pipeline is made and the run cannot begin: the query cannot be cut
    into ranges, for example.
    """

    def __init__(  # noqa: PLR0913  # the options of `bulkup run`, by name
        self,
        updater: str,
        *,
        params: Mapping[str, Any] | None = None,
        project: str | None = None,
        database: str | None = None,
        namespace: str | None = None,
        ranges: int | None = None,
        state_dir: str | Path = DEFAULT_STATE_DIR,
        batch_size: int | None = None,
        in_flight: int | None = None,
        max_rate: float | str | None = None,
        max_failures: int | str | None = None,
        once: bool = False,
        kind: str | None = None,
        ancestor: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__()
        given: dict[str, Any] = {
            "batch_size": batch_size,
            "in_flight": in_flight,
            "max_failures": max_failures,
            "max_rate": None if max_rate is None else MaxRate.parse(str(max_rate)),
        }
        options = Options(**{name: value for name, value in given.items() if value is not None})
        self._updater = updater
        self._params = params or {}
        self._target = TargetOptions(project, database, namespace)
        self._ranges = ranges
        self._context = RunContext(options, Path(state_dir), _log, once=once)
        self._selection = selection_of(kind, ancestor, [] if where is None else [where])

    def expand(self, beginning: Any) -> Any:
        if not isinstance(beginning, beam.pvalue.PBegin):
            raise UsageError(
                "bulkup.beam.Apply reads a query, so it begins a pipeline: write pipeline | Apply()"
            )
        with prepare(
            self._updater, self._params, self._target, self._context, selection=self._selection
        ) as prepared:
            begun = begin(prepared, ranges=self._ranges)
            if isinstance(begun, Report):
                return beginning | beam.Create([begun])
            work, ids = work_of(prepared, begun), range_ids(prepared, begun)
        results = beginning | "Ranges" >> beam.Create(ids) | "Apply" >> WorkOnRanges(work)
        # The run is ended even if the runner loses every result.
        always = beginning | "End" >> beam.Create([None])
        return (
            (results, always)
            | beam.Flatten()
            | beam.Map(lambda result: (None, result))
            | beam.GroupByKey()
            | "Conclude" >> beam.ParDo(_Conclude(work))
        )


class _Conclude(beam.DoFn):  # type: ignore[misc]
    """Ends the run once. The records say whether it is finished."""

    def __init__(self, work: RangedWork) -> None:
        self._work = work

    def setup(self) -> None:
        workers.set_up()

    def teardown(self) -> None:
        workers.tear_down()

    def process(self, element: Any) -> Iterator[Report]:
        try:
            report = workers.conclude(self._work)
        except BulkupError as error:
            raise RuntimeError(error.message) from error
        if not report.success:
            _LOG.error(
                "run %s is not finished: %s; continue with: %s",
                report.run_id, report.reason, report.next_command,
            )  # fmt: skip
        yield report


def _log(event: Event) -> None:
    if isinstance(event, Warned):
        _LOG.warning("%s", event.message)
