"""Which processes have worked on a run: who, where and when, and how each ended.

Kept in the checkpoint for the report only. The run does not rely on it: the run record in Datastore
says which process holds the run.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from bulkup.core.clock import timestamp
from bulkup.core.events import Detailed, Report
from bulkup.core.operations import OperationCounts, Operations
from bulkup.core.origin import origin_of
from bulkup.core.records import Origin
from bulkup.core.run_facts import RunnerFacts
from bulkup.core.user_traceback import encodable
from bulkup.state.checkpoint_file import CheckpointFile
from bulkup.state.record import LeaseTerms

MOST_RUNNERS = 50
"""Only the last ones are kept."""
MOST_WARNINGS = 50
MOST_WARNING_CHARS = 4_000
"""Limit for each warning, which may include a traceback."""


class Runners(CheckpointFile):
    """The processes that have worked on the run."""

    def runners(self) -> tuple[RunnerFacts, ...]:
        """The runners, oldest first; empty for a run of an earlier version."""
        return tuple(map(_runner, self._meta().get("who_worked") or ()))

    def runner_began(self, lease: LeaseTerms) -> None:
        """Record that this process, which holds the run, begins to work on it."""
        earlier = [one for one in self.runners() if one.number != lease.generation]
        self._keep((*earlier, _this_process(lease)))

    def runner_ended(self, lease: LeaseTerms, report: Report) -> None:
        """Record that this process ends its work. Does nothing if it has not begun any."""
        known = self.runners()
        if not known or known[-1].number != lease.generation:
            return
        warnings = tuple(warning[:MOST_WARNING_CHARS] for warning in report.warnings)
        ended = replace(
            known[-1],
            ended=report.ended.timestamp(), state=report.state.value, reason=report.reason,
            retries=report.retries, operations=report.operations,
            warnings=warnings[:MOST_WARNINGS],
        )  # fmt: skip
        self._keep((*known[:-1], ended))

    def _keep(self, runners: Sequence[RunnerFacts]) -> None:
        with self._step():
            self._set(who_worked=[_stored(runner) for runner in runners[-MOST_RUNNERS:]])


def _this_process(lease: LeaseTerms) -> RunnerFacts:
    return RunnerFacts(
        lease.generation,
        lease.holder.who if lease.holder is not None else "",
        origin_of(os.environ),
        platform.python_version(),
        platform.platform(),
        timestamp(),
    )


def _stored(runner: RunnerFacts) -> dict[str, Any]:
    warnings = [encodable(warning) for warning in runner.warnings]
    return {**asdict(runner), "reason": encodable(runner.reason), "warnings": warnings}


def _runner(stored: Mapping[str, Any]) -> RunnerFacts:
    known = _known(RunnerFacts, stored)
    known["origin"] = Origin(**_known(Origin, stored.get("origin") or {}))
    known["operations"] = _operations(stored.get("operations"))
    known["warnings"] = tuple(map(_warning, stored.get("warnings") or ()))
    return RunnerFacts(**known)


def _known(kind: type[Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows. Those added by a later one must not make the run
    unreadable."""
    return {name: stored[name] for name in kind.__dataclass_fields__ if name in stored}


def _operations(stored: Mapping[str, Any] | None) -> OperationCounts | None:
    if stored is None:
        return None
    predicted, counted = (_known(Operations, stored[name]) for name in ("predicted", "counted"))
    return OperationCounts(Operations(**predicted), Operations(**counted))


def _warning(stored: str) -> str:
    head, _, details = stored.partition("\n")
    return Detailed(head, details) if details else head
