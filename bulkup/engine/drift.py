"""Stops a run that does something other than its plan says."""

from __future__ import annotations

from bulkup.core.errors import Exit
from bulkup.core.model import Counts, RunState
from bulkup.core.plan_terms import MaxDrift, PlanOutcome, PlanTerms
from bulkup.core.stop import Stopped

DRIFTS = "the run drifts from its plan: "
DONE_BUT_DRIFTS = "every entity is done, and that is not what was planned: "


class Drift:
    """Checks each batch before it is sent, so that no commit exceeds the bound.

    A batch that would exceed it is dropped: its entities are not done, and resume handles them
    again. What a conflict changes in a batch later is not seen here, but in the report.

    `done`: what earlier runners have done.
    """

    def __init__(self, terms: PlanTerms, max_drift: MaxDrift, done: Counts) -> None:
        self._terms = terms
        self._max_drift = max_drift
        self._counts = done
        self._why = ""

    @property
    def has_stopped(self) -> bool:
        return bool(self._why)

    def look(self, batch: Counts) -> None:
        """Raises Stopped if the batch must not be sent, and for every later batch."""
        counts = self._counts + batch
        self._why = self._why or self._terms.too_many(counts, self._max_drift)
        if self._why:
            raise Stopped(RunState.STOPPED, f"{DRIFTS}{self._why}", Exit.LIMIT)
        self._counts = counts


def plan_outcome(
    terms: PlanTerms | None,
    counts: Counts,
    max_drift: MaxDrift,
    state: RunState,
    reason: str = "",
    *,
    is_repeated: bool = False,
) -> PlanOutcome | None:
    """How the run compares with its plan, for the report of a run in this state. `reason`: why it
    is not finished. `is_repeated`: it is a further pass (`--until-clean`), which handles less than
    was planned."""
    if terms is None:
        return None
    if reason.startswith(DRIFTS):
        drift = reason.removeprefix(DRIFTS)
    elif state is RunState.FINISHED and not is_repeated:
        drift = terms.too_many(counts, max_drift) or terms.too_few(counts, max_drift)
    else:
        drift = terms.too_many(counts, max_drift)
    return PlanOutcome(terms.plan_id, max_drift, drift, terms.approved_by, terms.approved_at)
