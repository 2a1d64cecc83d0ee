"""The dry pass of a run as JSON, for its record and its checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bulkup.core.model import Counts, GateResult


def gate_to_json(gate: GateResult | None) -> dict[str, Any] | None:
    return None if gate is None else {**asdict(gate), "counts": gate.counts.stored()}


def gate_from_json(raw: dict[str, Any] | None) -> GateResult | None:
    """Raises KeyError, TypeError, ValueError."""
    if raw is None:
        return None
    counts = {name: int(count) for name, count in raw["counts"].items()}
    passed, checked = bool(raw["passed"]), bool(raw["checked"])
    return GateResult(passed, Counts(**counts), float(raw["elapsed_s"]), checked)
