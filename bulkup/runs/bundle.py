"""Writes everything known about a run into one file for a bug report, and opens such a file.

By default, values are redacted (`core/redaction.py`). A bundle is opened as the folder of a run, in
a temporary state directory, so whatever reads a run's folder can also read a bundle.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from bulkup.core.errors import StateError
from bulkup.core.log_entry import LogEntry, parse_entry
from bulkup.core.model import Failure, LogLine
from bulkup.core.records import is_run_id
from bulkup.core.redaction import Redactor
from bulkup.core.version import __version__
from bulkup.core.vitals import Phase, Sample
from bulkup.runs.bundle_file import MAX_PART_BYTES, Bundle, damaged, read_bundle
from bulkup.runs.run_facts import run_facts
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.checkpoint_copy import make_copy, stored_run
from bulkup.state.files import make_run_folder
from bulkup.state.run_log import EVENTS_NAME
from bulkup.state.run_log_reader import read_log
from bulkup.state.timeline import TIMELINE_NAME, line_of, read_timeline

MAX_FAILURES = 5_000
MAX_LOG_LINES = 5_000
"""Only the first failures and log lines are kept."""
_PACKAGES = (
    "click", "google-api-core", "google-auth", "google-cloud-datastore", "google-cloud-ndb",
    "gevent", "grpcio", "jinja2", "lark", "opentelemetry-api", "proto-plus", "protobuf", "pydantic",
    "requests", "rich", "tenacity", "urllib3",
)  # fmt: skip
_DAMAGE = (
    AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError, OSError,
    sqlite3.Error, StateError,
)  # fmt: skip


# --- making one ---


def make_bundle(folder: Path, *, with_values: bool = False) -> Bundle:
    """A bundle of the run in this folder. The same run gives the same bundle. Raises StateError."""
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            # The id of the file is known only in this folder, and never changes.
            secret = checkpoint.status().file_id.encode()
            redactor = Redactor(secret, keeps_values=with_values)
            failures = [*islice(checkpoint.failures(), MAX_FAILURES)]
            log_lines = [*islice(checkpoint.log_lines(), MAX_LOG_LINES)]
            run_id = redactor.run_id(checkpoint.run_info.run_id)
            beside = {"failed_keys_lost": checkpoint.unnamed(), "logged": checkpoint.log_total()}
        stored = stored_run(folder)
    except sqlite3.DatabaseError as error:
        raise StateError(
            f"the checkpoint in {str(folder)!r} is damaged ({error}); attach the folder's "
            f"{EVENTS_NAME} instead, after a look at what it says"
        ) from error
    events = (_event(entry, redactor) for entry in read_log(folder))
    samples = (line_of(_sample(one, redactor)) for one in read_timeline(folder))
    parts = {
        "environment.json": _json(_environment()),
        "run.json": _json({**_run(stored, redactor), **beside}),
        "failures.jsonl": _first(json.dumps(_failure(one, redactor)) for one in failures),
        "log_lines.jsonl": _first(
            json.dumps({"at": line.at, "line": redactor.users_text(line)}) for line in log_lines
        ),
        "events.jsonl": _last(json.dumps(event) for event in events),
        "timeline.jsonl": _last(sample.rstrip("\n") for sample in samples),
    }
    return Bundle(run_id, __version__, with_values, parts)


def _environment() -> dict[str, Any]:
    """The environment of the process that makes the bundle. `run.json` names the processes that
    worked on the run."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    prefixes = ("BULKUP_", "DATASTORE_", "GOOGLE_", "OTEL_", "GRPC_")
    return {
        "bulkup": __version__,
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "packages": versions,
        # Only their names: the values may be secret or private.
        "variables": sorted(name for name in os.environ if name.startswith(prefixes)),
    }


def _run(stored: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    return {
        **stored,
        "run_info": _run_info(stored["run_info"], redactor),
        "facts": _facts(stored["facts"], redactor),
    }


def _run_info(info: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    hidden = {
        name: info[name] if redactor.keeps_values else redactor.hash(info[name])
        for name in ("fingerprint", "identity", "keys")
        if info.get(name)
    }
    ids = {name: redactor.run_id(info[name]) for name in ("run_id", "retry_of") if info.get(name)}
    spec, colon, updater = info["spec"].rpartition(":") if ":" in info["spec"] else ("", "", "")
    return {
        **info,
        **hidden,
        **ids,
        "description": redactor.message(info["description"]),
        "spec": redactor.path(spec) + colon + updater if colon else redactor.path(info["spec"]),
        "source_path": redactor.path(info["source_path"]),
        "params": redactor.parameters(info["params"]),
        "target": _target(info["target"], redactor),
        "selection": _selection(info.get("selection") or {}, redactor),
    }


def _target(target: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    names = {name: redactor.name(str(target[name]), name)
             for name in ("project", "database", "namespace")}  # fmt: skip
    return {**target, **names, "local": redactor.path(str(target["local"]))}


def _selection(selection: Mapping[str, Any], redactor: Redactor) -> dict[str, str]:
    return {
        name: str(value) if name == "kind" else redactor.message(str(value))
        for name, value in selection.items()
    }


def _facts(facts: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    ids = ("successor", "undone_by", "brought_back_by")
    return {
        **facts,
        **{name: redactor.run_id(facts[name]) for name in ids if facts.get(name)},
        "reason": redactor.message(facts.get("reason") or ""),
        "asked": _asked(facts.get("asked") or {}),
        "who_worked": [_runner(one, redactor) for one in facts.get("who_worked") or ()],
    }


def _asked(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the last runner. What the user types freely, such as the command of a health
    check, may hold a secret in any form."""
    return {
        name: value
        for name, value in asked.items()
        if not isinstance(value, str) or name in ("max_rate", "max_drift", "window")
    }


def _runner(runner: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    origin = dict(runner.get("origin") or {})
    if not redactor.keeps_values:
        origin.update(ci_job="", git_commit="")
    return {
        **runner,
        "origin": origin,
        "who": redactor.name(runner.get("who") or "", "user"),
        "reason": redactor.message(runner.get("reason") or ""),
        "warnings": [redactor.message(one) for one in runner.get("warnings") or ()],
    }


def _failure(failure: Failure, redactor: Redactor) -> dict[str, Any]:
    redact = {"handle": redactor.users_error, "fail": redactor.users_text}
    return {
        "key": redactor.key(failure.key),
        "step": failure.step,
        "error": redact.get(failure.step, redactor.message)(failure.error),
        "traceback": redactor.traceback(failure.traceback),
        "at": failure.at,
    }


def _sample(sample: Sample, redactor: Redactor) -> Sample:
    # A health check belongs to the user, so its output is the user's text.
    is_users = sample.phase is Phase.HELD
    why = redactor.users_text(sample.why) if is_users else redactor.message(sample.why)
    return replace(sample, why=why, limit_why=redactor.message(sample.limit_why))


def _event(entry: LogEntry, redactor: Redactor) -> dict[str, Any]:
    fields = dict(entry.fields)
    if not redactor.keeps_values:
        known = _EVENTS.get(entry.kind, {})
        fields = {name: known[name](value, redactor) for name, value in fields.items()
                  if name in known}  # fmt: skip
        if entry.kind == "failure":
            fields["error"] = _failure(
                Failure(entry.text("key"), entry.text("step"), entry.text("error")), redactor
            )["error"]
    else:
        fields = {name: redactor.message(value) if isinstance(value, str) else value
                  for name, value in fields.items()}  # fmt: skip
        if isinstance(fields.get("params"), dict):
            fields["params"] = redactor.parameters(fields["params"])
    return {"at": entry.at, "runner": entry.runner, "type": entry.kind, **fields}


_Redact = Callable[[Any, Redactor], Any]


def _as_it_is(value: Any, _: Redactor) -> Any:
    return value


def _said(value: Any, redactor: Redactor) -> Any:
    return redactor.message(str(value or ""))


def _dropped(_: Any, __: Redactor) -> str:
    return ""


_EVENTS: Mapping[str, Mapping[str, _Redact]] = {
    "start": {
        **dict.fromkeys(("updater", "resumed", "total", "already", "bulkup"), _as_it_is),
        "run_id": lambda value, redactor: redactor.run_id(str(value)),
        "description": _said,
        "query": _said,
        "state_file": _dropped,
        "who": lambda value, redactor: redactor.name(str(value), "user"),
        "params": lambda value, redactor: redactor.parameters(value),
        "target": lambda value, redactor: _target(value, redactor),
        "selection": lambda value, redactor: _selection(value, redactor),
    },
    "warning": {"message": _said, "kind": _as_it_is},
    "retry": {**dict.fromkeys(("call", "attempt", "wait_s", "left_s"), _as_it_is), "error": _said},
    "failure": {
        **dict.fromkeys(("step", "failed", "max_failures"), _as_it_is),
        "key": lambda value, redactor: redactor.key(str(value)),
        "error": _dropped,
    },
    "log": {"line": lambda value, redactor: redactor.users_text(str(value))},
    "gate": dict.fromkeys(("passed", "counts", "elapsed_s", "checked_before"), _as_it_is),
    "steered": {
        **dict.fromkeys(
            ("verb", "state", "asked_at", "max_rate", "in_flight", "batch_size"), _as_it_is
        ),
        "by": lambda value, redactor: redactor.name(str(value), "user"),
        "message": _said,
    },
    "held": {"why": lambda value, redactor: redactor.users_text(str(value)), "until": _as_it_is},
    "released": {"held_s": _as_it_is},
    "end": {
        **dict.fromkeys(
            ("state", "exit_code", "counts", "total", "elapsed_s", "retries"), _as_it_is
        ),
        "reason": _said,
        "successor": lambda value, redactor: redactor.run_id(str(value)),
    },
}
"""Which fields are kept of each event type. Of other types, only the time, the runner and the type
are kept."""


def _json(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()


def _first(lines: Iterable[str]) -> bytes:
    kept, size = [], 0
    for line in lines:
        size += len(line) + 1
        if size > MAX_PART_BYTES:
            break
        kept.append(line)
    return "".join(f"{line}\n" for line in kept).encode()


def _last(lines: Iterable[str]) -> bytes:
    kept: deque[str] = deque()
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line) + 1
        while size > MAX_PART_BYTES:
            size -= len(kept.popleft()) + 1
    return "".join(f"{line}\n" for line in kept).encode()


# --- opening one ---


@contextmanager
def opened_bundle(path: Path) -> Iterator[Path]:
    """Unpack a bundle into the folder of a run, which exists until the block ends. Raises
    UsageError."""
    bundle = read_bundle(path)
    with tempfile.TemporaryDirectory(prefix="bulkup-bundle.") as temporary:
        try:
            folder = _unpacked(bundle, Path(temporary))
            run_facts(folder)  # what it refuses is not a run
        except _DAMAGE as error:
            raise damaged(path) from error
        yield folder


def _unpacked(bundle: Bundle, state_dir: Path) -> Path:
    if not is_run_id(bundle.run_id):
        raise ValueError("run id")
    stored = json.loads(bundle.part("run.json"))
    if stored["run_info"]["run_id"] != bundle.run_id:
        raise ValueError("run id")
    folder = make_run_folder(state_dir, bundle.run_id)
    failures = map(_failure_of, _objects(bundle.part("failures.jsonl")))
    log_lines = (
        LogLine.of(_text(one["line"]), float(one["at"]))
        for one in _objects(bundle.part("log_lines.jsonl"))
    )
    make_copy(folder, stored, failures, log_lines)
    entries = map(parse_entry, bundle.part("events.jsonl").splitlines())
    events = [
        {"at": one.at, "runner": one.runner, "type": one.kind, **one.fields}
        for one in entries if one is not None
    ]  # fmt: skip
    (folder / EVENTS_NAME).write_text("".join(f"{json.dumps(event)}\n" for event in events))
    (folder / TIMELINE_NAME).write_bytes(bundle.part("timeline.jsonl"))
    return folder


def _failure_of(stored: Mapping[str, Any]) -> Failure:
    key, step, error = (_text(stored[name]) for name in ("key", "step", "error"))
    return Failure(key, step, error, _text(stored["traceback"]), float(stored["at"]))


def _objects(lines: bytes) -> Iterator[Mapping[str, Any]]:
    for line in lines.splitlines():
        one = json.loads(line)
        if not isinstance(one, dict):
            raise TypeError("an object is expected")
        yield one


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is expected")
    return value
