"""Runners for tests, named on the command line: `--runner=tests.beam.runners.DropsResiduals`."""

from __future__ import annotations

import threading
from typing import Any

from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState


class DropsResiduals(FnApiRunner):  # type: ignore[misc]
    """Loses what a transform defers, and what was split off, and says DONE all the same."""

    def _add_sdk_delayed_applications_to_deferred_inputs(self, *args: Any) -> set[str]:
        return set()

    def _add_residuals_and_channel_splits_to_deferred_inputs(
        self, *args: Any
    ) -> tuple[set[str], set[str]]:
        return set(), set()


class Service(PipelineRunner):  # type: ignore[misc]
    """Takes a job and never ends it."""

    def run_pipeline(self, pipeline: Any, options: Any) -> PipelineResult:
        result = PipelineResult(PipelineState.RUNNING)
        result.job_id = lambda: "job-1"
        result.wait_until_finish = lambda duration=None: threading.Event().wait()
        return result


class Hangs(FnApiRunner):  # type: ignore[misc]
    """Does all of the work, and does not notice that it is done."""

    def run_pipeline(self, pipeline: Any, options: Any) -> PipelineResult:
        result = super().run_pipeline(pipeline, options)
        result.wait_until_finish = lambda duration=None: threading.Event().wait()
        return result
