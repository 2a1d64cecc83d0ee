"""A rehearsal as JSON: the line of `bulkup rehearse --json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bulkup.core.plan_json import bill_fields, group_fields, kind_fields
from bulkup.core.rehearsal import (
    CrashPass,
    Effect,
    PropertyEffect,
    Rehearsal,
    RehearsedRun,
    RehearsedWork,
    SecondRun,
    ValueSummary,
)


def rehearsal_fields(rehearsal: Rehearsal) -> dict[str, Any]:
    """All of a rehearsal, ready for `json.dumps`."""
    source = rehearsal.source
    return {
        "bulkup": rehearsal.version,
        "created": rehearsal.created.isoformat(),
        "elapsed_s": rehearsal.elapsed_s,
        "exit_code": int(rehearsal.exit_code),
        "source": {
            "path": source.path,
            "export": source.is_export,
            "sample": source.sample,
            "entities": source.entities,
            "bytes": source.bytes,
            "kinds": [{"kind": kind, "entities": count} for kind, count in source.kinds],
            "left_out": list(source.left_out),
        },
        "target": asdict(source.target),
        "migrations": rehearsal.is_migrations,
        "folder": rehearsal.folder,
        "left": list(rehearsal.left),
        "works": [_work(work) for work in rehearsal.works],
    }


def _work(work: RehearsedWork) -> dict[str, Any]:
    return {
        "name": work.name,
        "exit_code": int(work.exit_code),
        "finished": work.finished,
        "error": work.error,
        "counts": work.counts.named(),
        "runs": [_run(run) for run in work.runs],
        "effect": _effect(work.effect),
        "bill": None if work.bill is None else bill_fields(work.bill),
        "forecast": None if work.forecast is None else asdict(work.forecast),
        "idempotent": work.is_idempotent,
        "claims_idempotent": work.claims_idempotent,
        "second": None if work.second is None else _second(work.second),
        "crash": None if work.crash is None else _crash(work.crash),
    }


def _run(run: RehearsedRun) -> dict[str, Any]:
    return {
        "updater": run.updater,
        "description": run.description,
        "params": dict(run.params),
        "query": run.query,
        **({"selection": run.selection.stored()} if run.selection else {}),
        "state": run.state.value,
        "reason": run.reason,
        "exit_code": int(run.exit_code),
        "counts": run.counts.named(),
        "elapsed_s": run.elapsed_s,
        "runners": run.runners,
        "max_failures": run.max_failures,
        "failure_groups": [group_fields(group) for group in run.failure_groups],
        "other_failures": run.other_failures,
        "warnings": list(run.warnings),
        "log_lines": list(run.log_lines),
        "log_total": run.log_total,
        "check_before": run.check_before,
        "check_after": run.check_after,
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "created": effect.created,
        "changed": effect.changed,
        "deleted": effect.deleted,
        "kinds": [kind_fields(kind) for kind in effect.kinds],
        "more_kinds": effect.more_kinds,
        "by_property": [_property(one) for one in effect.properties],
        "more_properties": effect.more_properties,
        "warnings": [{"kind": w.hazard.value, "message": w.message} for w in effect.warnings],
    }


def _property(one: PropertyEffect) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "changed": one.changed,
        "before": _values(one.before),
        "after": _values(one.after),
    }


def _values(values: ValueSummary) -> dict[str, Any]:
    return {
        "types": [{"type": name, "count": count} for name, count in values.types],
        "distinct": values.distinct,
        "common": [{"value": text, "count": count} for text, count in values.common],
        "least": values.least,
        "greatest": values.greatest,
    }


def _second(second: SecondRun) -> dict[str, Any]:
    return {
        "finished": second.finished,
        "error": second.error,
        "runs": [_run(run) for run in second.runs],
        "effect": _effect(second.effect),
    }


def _crash(crash: CrashPass) -> dict[str, Any]:
    return {
        "same": crash.is_same,
        "kills": [asdict(kill) for kill in crash.kills],
        "runs": [_run(run) for run in crash.runs],
        "effect": _effect(crash.effect),
        "counts_differ": list(crash.counts_differ),
        "varying": list(crash.varying),
        "unlike": crash.unlike,
        "not_compared": crash.not_compared,
    }
