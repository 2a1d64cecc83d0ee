"""Events and reports as the fields of JSON lines (documented in `jsonl.py` and `schema.json`)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from bulkup.core.events import (
    AlreadyDone,
    Counts,
    Failure,
    FailureGroup,
    GateResult,
    Held,
    PlanOutcome,
    Progress,
    Report,
    RunStarted,
    RunState,
    Steered,
    Vitals,
)
from bulkup.core.selection import Selection
from bulkup.core.steering import Steering
from bulkup.core.typed_key import typed_key
from bulkup.report.summary_wording import headline_of
from bulkup.report.text import iso


def summary_fields(report: Report) -> dict[str, Any]:
    """The fields of a `summary` line, ready for `json.dumps`."""
    return {
        "run_id": report.run_id,
        "updater": report.updater,
        "description": report.description,
        "target": asdict(report.target),
        "params": dict(report.params),
        "dry_run": report.dry_run,
        "state": "killed" if report.alive is False else report.state.value,
        "success": report.success,
        "reason": report.reason,
        "exit_code": None if report.state is RunState.RUNNING else int(report.exit_code),
        "counts": counts_fields(report.counts),
        "total": report.total,
        "started": iso(report.started),
        "ended": iso(report.ended),
        "elapsed_s": report.elapsed_s,
        "retries": report.retries,
        "failures": [failure_fields(failure) for failure in report.failures],
        "failure_groups": [_group(group) for group in report.failure_groups],
        "other_failures": report.other_failures,
        "log_lines": list(report.log_lines),
        "log_total": report.log_total,
        "warnings": list(report.warnings),
        "state_file": report.state_file,
        "next_steps": [report.next_command] if report.next_command else [],
        "next_command": report.next_command,
        "runners": report.runners,
        "max_failures": report.max_failures,
        "predecessor": report.predecessor,
        "successor": report.successor,
        "retry_of": report.retry_of,
        "retried_by": list(report.retried_by),
        "retried": report.retried,
        "passes": [] if report.passes is None else [*report.passes, report.counts.writes],
        "headline": headline_of(report),
        **_operations_fields(report),
        **({"verification": asdict(report.verification)} if report.verification else {}),
        **({"gate": gate_fields(report.gate)} if report.gate is not None else {}),
        **({"plan": _plan_fields(report.plan)} if report.plan is not None else {}),
        **selection_fields(report.selection),
        **_ranges_fields(report),
    }


def _ranges_fields(report: Report) -> dict[str, Any]:
    seen = report.ranges
    if seen is None or not seen.total:
        return {}
    at = datetime.fromtimestamp(seen.at, timezone.utc)
    return {
        "ranges": seen.total,
        "ranges_finished": seen.finished,
        "ranges_seen": iso(at) if seen.at else None,
    }


def steered_fields(event: Steered) -> dict[str, Any]:
    return {
        "verb": event.verb.value,
        **steering_fields(event.steering),
        "message": event.message,
    }


def steering_fields(steering: Steering) -> dict[str, Any]:
    tuning = steering.tuning
    return {
        "state": steering.state.value,
        "by": steering.by,
        "asked_at": iso(datetime.fromtimestamp(steering.at, timezone.utc)),
        "max_rate": tuning.max_rate,
        "in_flight": tuning.in_flight,
        "batch_size": tuning.batch_size,
    }


def held_fields(event: Held) -> dict[str, Any]:
    return {"why": event.why, "until": iso(event.until) if event.until else None}


def selection_fields(selection: Selection) -> dict[str, Any]:
    return {"selection": selection.stored()} if selection else {}


def _plan_fields(plan: PlanOutcome) -> dict[str, Any]:
    approved = datetime.fromtimestamp(plan.approved_at, timezone.utc)
    return {
        "plan_id": plan.plan_id,
        "max_drift": plan.max_drift.share,
        "drift": plan.drift,
        "approved_by": plan.approved_by,
        "approved": iso(approved) if plan.approved_by else None,
    }


def gate_fields(gate: GateResult) -> dict[str, Any]:
    return {
        "passed": gate.passed,
        "counts": counts_fields(gate.counts),
        "elapsed_s": gate.elapsed_s,
        "checked_before": gate.checked,
    }


def _operations_fields(report: Report) -> dict[str, Any]:
    if report.operations is None or report.dry_run:
        return {}
    return {"operations": asdict(report.operations)}


def namespaces_fields(report: Report) -> dict[str, Any]:
    return {
        "namespaces": [
            {
                "namespace": space.namespace,
                "run_id": space.run_id,
                "state": space.state.value if space.state is not None else "not begun",
                "counts": counts_fields(space.counts),
                "exit_code": int(space.exit_code),
                "note": space.note,
            }
            for space in report.spaces
        ],
        "appeared": list(report.appeared),
    }


def start_fields(event: RunStarted) -> dict[str, Any]:
    return {
        "run_id": event.run_id,
        "updater": event.updater,
        "description": event.description,
        "target": asdict(event.target),
        "params": dict(event.params),
        "dry_run": event.dry_run,
        "resumed": event.resumed,
        "already": counts_fields(event.already),
        "total": event.total,
        "state_file": event.state_file,
        "verifies": event.verifies,
        **({"gate": True} if event.gate else {}),
        **selection_fields(event.selection),
        **({"query": event.query} if event.query else {}),
    }


def progress_fields(event: Progress) -> dict[str, Any]:
    return {
        "handled": max(event.handled, event.counts.handled),
        "counts": counts_fields(event.counts),
        "total": event.total,
        "elapsed_s": event.elapsed_s,
        "rate": event.rate,
        "retries": event.retries,
        "waiting": event.waiting or "",
        "pace": event.rate_limit or "",
        **({"vitals": _vitals_fields(event.vitals)} if event.vitals is not None else {}),
    }


def _vitals_fields(vitals: Vitals) -> dict[str, Any]:
    return {**asdict(vitals), "phase": vitals.phase.value}


def already_done_fields(event: AlreadyDone) -> dict[str, Any]:
    return {
        "updater": event.updater,
        "ended": iso(event.ended),
        "ago_s": event.ago_s,
        "who": event.who,
        "counts": counts_fields(event.counts),
        "exit_code": int(event.exit_code),
    }


def failure_fields(failure: Failure) -> dict[str, Any]:
    return {
        "key": failure.key,
        "typed_key": typed_key(failure.key),
        "step": failure.step,
        "error": failure.error,
        "traceback": failure.traceback,
    }


def time_of(what: Failure | str) -> datetime | None:
    """When an entity failed or a line was logged; None if that is not known."""
    at = getattr(what, "at", 0.0)
    try:
        return datetime.fromtimestamp(at, timezone.utc) if at else None
    except (OverflowError, OSError, TypeError, ValueError):  # from a damaged file
        return None


def _group(group: FailureGroup) -> dict[str, Any]:
    return {**asdict(group), "typed_keys": [typed_key(key) for key in group.keys]}


def counts_fields(counts: Counts) -> dict[str, int]:
    """Counts by the names that all reports use. `puts`, `deletes` and `writes` are from earlier
    versions."""
    return counts.named()
