"""The dry pass and the plan of a run as JSON, for its record and its checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bulkup.core.model import Counts, GateResult
from bulkup.core.plan_terms import WATCHED, PlanTerms


def gate_to_json(gate: GateResult | None) -> dict[str, Any] | None:
    return None if gate is None else {**asdict(gate), "counts": gate.counts.stored()}


def gate_from_json(raw: dict[str, Any] | None) -> GateResult | None:
    """Raises KeyError, TypeError, ValueError."""
    if raw is None:
        return None
    counts = {name: int(count) for name, count in raw["counts"].items()}
    passed, checked = bool(raw["passed"]), bool(raw["checked"])
    return GateResult(passed, Counts(**counts), float(raw["elapsed_s"]), checked)


def plan_to_json(plan: PlanTerms | None) -> dict[str, Any] | None:
    return None if plan is None else asdict(plan)


def plan_from_json(raw: dict[str, Any] | None) -> PlanTerms | None:
    """Raises KeyError, TypeError, ValueError."""
    if raw is None:
        return None
    ranges = {name: (int(low), int(high)) for name, (low, high) in raw["ranges"].items()}
    if not ranges.keys() >= WATCHED.keys():
        raise KeyError("ranges")
    return PlanTerms(
        str(raw["plan_id"]),
        str(raw["code"]),
        str(raw["identity"]),
        ranges,
        str(raw["approved_by"]),
        int(raw["approved_at"]),
    )
