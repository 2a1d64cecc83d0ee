"""The facts of a run as data: the `report` line of `--json`, and the data embedded in a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bulkup.core.changes import change_fields
from bulkup.core.run_facts import Incident, RunFacts, RunnerFacts
from bulkup.report.charts import parts_of
from bulkup.report.json_fields import counts_fields, namespaces_fields, summary_fields
from bulkup.report.json_lines import json_text
from bulkup.report.page.comparison import compare
from bulkup.report.text import iso

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_CHARACTERS = 4_000
"""Per string in a page. The lines of `--json` are not cut."""

_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
"""JSON escapes, so that no string can end the HTML element that holds the data."""


def facts_fields(facts: RunFacts) -> dict[str, Any]:
    """The fields of a `report` line, ready for `json.dumps`."""
    report = facts.report
    return {
        **summary_fields(report),
        **(namespaces_fields(report) if report.spaces else {}),
        "read": iso(facts.read_at),
        "source": facts.source_path,
        "checksum": facts.checksum,
        "runners_known": [_runner(runner) for runner in facts.runners],
        "time_s": {part.style: round(part.seconds, 3) for part in parts_of(facts.samples)},
        "timeline": _timeline(facts),
        "changes": [change_fields(change) for change in facts.changes],
        "changes_total": facts.changes_total,
        "chain": [
            {
                "run_id": link.run_id,
                "updater": link.updater,
                "state": link.state,
                "counts": None if link.counts is None else counts_fields(link.counts),
            }
            for link in facts.chain
        ],
        "incidents": [_incident(incident) for incident in facts.incidents],
    }


def comparison_fields(a: RunFacts, b: RunFacts) -> dict[str, Any]:
    """The fields of a `comparison` line."""
    both = compare(a, b)
    rows = {"rows": both.rows, "spent": both.time, "failures": both.failures}
    return {
        "runs": [facts_fields(a), facts_fields(b)],
        **{
            name: [
                {"name": row.name, "a": row.a, "b": row.b, "change": row.change} for row in found
            ]
            for name, found in rows.items()
        },
    }


def embedded(fields: Mapping[str, Any]) -> Markup:
    """JSON to embed in an HTML page, with long strings cut."""
    from markupsafe import Markup

    text = json_text(_bounded(fields), separators=(",", ":"))
    return Markup(text.translate(_ESCAPED))  # noqa: S704 (nothing in it is markup any more)


def _bounded(value: Any) -> Any:
    """A string that is too long, cut; or a mapping or list with its long strings cut."""
    if isinstance(value, str):
        return f"{value[:MOST_CHARACTERS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return dict(zip(_bounded([*value]), _bounded([*value.values()]), strict=True))
    # Numbers are kept without a call: a timeline has thousands of them.
    return [
        one
        if isinstance(one, _NUMBERS) or (isinstance(one, str) and len(one) <= MOST_CHARACTERS)
        else _bounded(one)
        for one in value
    ]


_NUMBERS = (int, float, type(None))


def _timeline(facts: RunFacts) -> dict[str, list[Any]]:
    """By column: otherwise, with thousands of samples, field names would make up most of a page."""
    samples = facts.samples
    columns: dict[str, list[Any]] = {
        name: [getattr(sample, name) for sample in samples] for name in _COLUMNS
    }
    columns["at"] = [round(sample.at, 3) for sample in samples]
    columns["phase"] = [sample.phase.value for sample in samples]
    for name in _COUNTS:
        columns[name] = [getattr(sample.counts, name) for sample in samples]
    for name in _WAITS:
        columns[name] = [round(getattr(sample.waits, name), 3) for sample in samples]
    return columns


_COLUMNS = (
    "at", "runner", "phase", "why", "handled", "rate", "in_flight", "batch_size", "median_s",
    "p99_s", "limit_per_s", "limit_why", "conflicts", "retries",
)  # fmt: skip
_COUNTS = ("written", "deleted", "failed")
_WAITS = ("reading_s", "handling_s", "committing_s", "paced_s", "held_s")


def _runner(runner: RunnerFacts) -> dict[str, Any]:
    return {
        "number": runner.number,
        "who": runner.who,
        "version": runner.origin.version,
        "ci_job": runner.origin.ci_job,
        "git_commit": runner.origin.git_commit,
        "python": runner.python,
        "system": runner.system,
        "began": _iso(runner.began),
        "ended": None if runner.ended is None else _iso(runner.ended),
        "state": runner.state,
        "reason": runner.reason,
        "retries": runner.retries,
        "operations": None if runner.operations is None else asdict(runner.operations),
        "warnings": list(runner.warnings),
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {"at": _iso(incident.at), "what": incident.what, "by": incident.by}


def _iso(unix: float) -> str | None:
    try:
        return iso(datetime.fromtimestamp(unix, timezone.utc)) if unix else None
    except (OverflowError, OSError, ValueError):  # from a damaged file
        return None
