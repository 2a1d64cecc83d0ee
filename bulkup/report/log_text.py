"""The log of a run, one line per event: for people, and as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from bulkup.core.log_entry import LogEntry
from bulkup.core.typed_key import typed_key
from bulkup.report.text import clean, duration, iso

STYLES = {
    "failure": "red", "warning": "yellow", "retry": "yellow", "held": "yellow",
    "steered": "cyan", "released": "cyan", "start": "bold", "end": "bold",
}  # fmt: skip
"""The style of each kind of event on a terminal."""


MAX_SECONDS = 1e12
_DAMAGE = (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError)
"""Errors that the fields of a damaged file may cause."""


def log_text(entry: LogEntry) -> str:
    """`2026-01-02 03:04:05 warning  message`: one clean line, times in UTC."""
    when = f"{time_of(entry):%Y-%m-%d %H:%M:%S}"
    return f"{when} {clean(entry.kind, 20):<8} {log_sentence(entry)}"


def log_sentence(entry: LogEntry) -> str:
    """What happened, in one clean line without its time and kind."""
    return _TEXTS.get(entry.kind, _other)(entry)


def time_of(entry: LogEntry) -> datetime:
    """When it happened; the epoch if that time is not valid."""
    try:
        return datetime.fromtimestamp(entry.at, timezone.utc)
    except (OverflowError, OSError, ValueError):  # from a damaged file
        return datetime.fromtimestamp(0, timezone.utc)


def log_fields(entry: LogEntry) -> tuple[str, Mapping[str, Any]] | None:
    """The type and the fields of an event's JSON line; None if it has none."""
    make = _LINES.get(entry.kind)
    try:
        return None if make is None else (entry.kind, make(entry.fields))
    except _DAMAGE:
        return None


# --- for people ---


def _started(entry: LogEntry) -> str:
    what = "resumed" if entry.fields.get("resumed") is True else "started"
    who = f" by {clean(entry.text('who'))}" if entry.text("who") else ""
    target = entry.fields.get("target")
    project = target.get("project") if isinstance(target, dict) else ""
    return (
        f"{clean(entry.text('updater'))} {what}{who} on project {clean(str(project))} "
        f"(runner {entry.runner}, bulkup {clean(entry.text('bulkup') or '?', 20)})"
    )


def _retrying(entry: LogEntry) -> str:
    return (
        f"{clean(entry.text('error'))}: attempt {clean(str(entry.fields.get('attempt')), 20)} "
        f"failed, the next one in {_seconds(entry.fields.get('wait_s'))}"
    )


def _failed(entry: LogEntry) -> str:
    return f"{clean(entry.text('key'))}: {clean(entry.text('error'))}"


def _ended(entry: LogEntry) -> str:
    counts = entry.fields.get("counts")
    numbers = counts if isinstance(counts, dict) else {}
    shown = ", ".join(
        f"{numbers[name]:,} {name}"
        for name in ("handled", "written", "deleted", "failed")
        if isinstance(numbers.get(name), int) and (numbers[name] or name == "handled")
    )
    reason = clean(entry.text("reason"))
    took = _seconds(entry.fields.get("elapsed_s"))
    parts = [clean(entry.text("state"), 40), f"after {took}", f"({shown})" if shown else ""]
    return " ".join(filter(None, parts)) + (f": {reason}" if reason else "")


def _other(entry: LogEntry) -> str:
    """An event that a later version has written."""
    return ", ".join(
        f"{clean(str(name), 40)}={clean(str(value), 200)}" for name, value in entry.fields.items()
    )


def _seconds(value: Any) -> str:
    is_time = isinstance(value, (int, float)) and abs(value) < MAX_SECONDS  # false for NaN, too
    return duration(float(value)) if is_time else "?"


_TEXTS: Mapping[str, Callable[[LogEntry], str]] = {
    "start": _started,
    "warning": lambda entry: clean(entry.text("message")),
    "retry": _retrying,
    "failure": _failed,
    "log": lambda entry: clean(entry.text("line")),
    "gate": lambda entry: "the dry pass was clean, and the run begins",
    "steered": lambda entry: clean(entry.text("message")),
    "held": lambda entry: clean(entry.text("why")),
    "released": lambda entry: f"works again, after {_seconds(entry.fields.get('held_s'))}",
    "end": _ended,
}


# --- for programs ---


def _start_line(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("updater", "description", "target", "params", "resumed", "already", "total")
    beside = {name: fields[name] for name in ("selection", "who") if fields.get(name)}
    query = {"query": fields["query"]} if fields.get("query") else {}
    known = {name: fields[name] for name in names}
    state_file = fields.get("state_file", "")
    return {"format": 1, **known, "dry_run": False, "state_file": state_file, **query, **beside}


def _failure_line(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("key", "step", "error", "failed", "max_failures")
    known = {name: fields[name] for name in names}
    return {**known, "typed_key": typed_key(known["key"]), "traceback": ""}


def _only(*names: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    return lambda fields: {name: fields[name] for name in names}


_steered = _only(
    "verb", "state", "by", "asked_at", "max_rate", "in_flight", "batch_size", "message"
)


def _iso(unix: float | None) -> str | None:
    return None if unix is None else iso(datetime.fromtimestamp(unix, timezone.utc))


_LINES: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "start": _start_line,
    "warning": _only("message", "kind"),
    "retry": _only("call", "error", "attempt", "wait_s", "left_s"),
    "failure": _failure_line,
    "log": _only("line"),
    "gate": _only("passed", "counts", "elapsed_s", "checked_before"),
    "steered": lambda fields: {**_steered(fields), "asked_at": _iso(fields["asked_at"])},
    "held": lambda fields: {"why": fields["why"], "until": _iso(fields["until"])},
    "released": _only("held_s"),
    "end": _only(
        "state", "reason", "exit_code", "counts", "total", "elapsed_s", "retries", "successor"
    ),
}
