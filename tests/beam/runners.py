"""Runners for tests, named on the command line: `--runner=tests.beam.runners.DropsResiduals`."""

from __future__ import annotations

from typing import Any

from apache_beam.runners.portability.fn_api_runner import FnApiRunner


class DropsResiduals(FnApiRunner):  # type: ignore[misc]
    """Loses what a transform defers, and what was split off, and says DONE all the same."""

    def _add_sdk_delayed_applications_to_deferred_inputs(self, *args: Any) -> set[str]:
        return set()

    def _add_residuals_and_channel_splits_to_deferred_inputs(
        self, *args: Any
    ) -> tuple[set[str], set[str]]:
        return set(), set()
