"""What happened in a run, as one line of JSON per event: `events.jsonl` in the run's folder.

There is a line for each event that is worth reporting later: the start and end of a runner,
warnings, retried calls, failed entities, lines of `self.log`, and steering. An entity without any
of these gets no line. Strings are as untrusted as those of the events.

    at      Unix time, to the millisecond
    runner  the generation of the runner, 1 for the first one
    type    start, warning, retry, failure, log, gate, steered, held, released, end; others may
            follow

The checkpoint is the authority on failures and log lines; this file shows them in order among the
other events. Its size is limited: at MAX_BYTES it becomes `events.1.jsonl`, replacing the previous
one. `run_log_reader.py` reads both.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from bulkup.core.clock import timestamp
from bulkup.core.events import (
    EntityFailed,
    Event,
    GatePassed,
    Held,
    Logged,
    Released,
    Retrying,
    RunEnded,
    RunStarted,
    Steered,
    Warned,
)
from bulkup.core.user_traceback import encodable
from bulkup.core.version import __version__

EVENTS_NAME = "events.jsonl"
OLDER_NAME = "events.1.jsonl"

MAX_BYTES = 10_000_000
"""Limit for one file. With the older one, a run's log is at most twice this."""
MAX_TEXT_CHARS = 10_000
"""Limit for a string in a line; the checkpoint has the whole string."""


class RunLog:
    """A listener that writes one runner's events. The process holds the run's lock.

    `who`: user@host. `on_loss` is called once, with a sentence, when the file cannot be written.
    After that nothing more is written: a full disk is no reason to end a run.
    """

    def __init__(
        self,
        folder: Path,
        runner: int,
        *,
        who: str = "",
        on_loss: Callable[[str], None] = lambda _: None,
        unix: Callable[[], float] = timestamp,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._path = folder / EVENTS_NAME
        self._runner = runner
        self._who = who
        self.on_loss = on_loss
        self._unix = unix
        self._max_bytes = max_bytes
        self._descriptor: int | None = None
        self._size = 0
        self._is_over = False
        """Whether the file is closed, or can no longer be written."""

    def __call__(self, event: Event) -> None:
        write = _WRITERS.get(type(event))
        if write is None or self._is_over:
            return
        kind, fields = write(event)
        if kind == "start":
            fields = {**fields, "who": self._who, "bulkup": __version__}
        self._add(kind, fields, getattr(_subject(event), "at", 0.0))

    def close(self) -> None:
        """May be called twice."""
        self._is_over = True
        self._close()

    def _add(self, kind: str, fields: Mapping[str, Any], at: float) -> None:
        head = {"at": round(at or self._unix(), 3), "runner": self._runner, "type": kind}
        line = json.dumps({**head, **fields}, default=_as_json).encode() + b"\n"
        try:
            if self._descriptor is None:
                self._open()
            elif self._size and self._size + len(line) > self._max_bytes:
                self._rotate()
            assert self._descriptor is not None
            # Write immediately: somebody may look for the last event before a handler hung.
            left = memoryview(line)
            while left:
                left = left[os.write(self._descriptor, left) :]
            self._size += len(line)
        except OSError as error:
            self._is_over = True
            self._close()
            self.on_loss(
                f"cannot write {str(self._path)!r} ({error.strerror or error}); the run continues, "
                "and its log ends here"
            )

    def _open(self) -> None:
        # Never write through a link: it may lead to any of the user's files.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, 0o600)
        stat = os.fstat(self._descriptor)
        if stat.st_nlink > 1:
            raise OSError("it is a link to another file")
        os.fchmod(self._descriptor, 0o600)  # whatever the umask is
        self._size = stat.st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # after the torn line of a runner that was killed

    def _rotate(self) -> None:
        self._close()
        # A reader that has this file open reads it to its end, and then finds the new one.
        os.replace(self._path, self._path.with_name(OLDER_NAME))
        self._open()

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # a network file system may fail here; what was written stays
                os.close(self._descriptor)
            self._descriptor = None


def _subject(event: Event) -> object:
    """The part of the event that knows when it happened, if there is one."""
    if isinstance(event, EntityFailed):
        return event.failure
    return event.line if isinstance(event, Logged) else None


def _started(event: RunStarted) -> tuple[str, dict[str, Any]]:
    fields = {
        name: getattr(event, name)
        for name in (
            "run_id", "updater", "description", "target", "params", "resumed", "total",
            "state_file", "query",
        )
    }  # fmt: skip
    fields["already"] = event.already.named()
    if event.selection:
        fields["selection"] = event.selection.stored()
    return "start", fields


def _warned(event: Warned) -> tuple[str, dict[str, Any]]:
    return "warning", {"message": _text(event.message), "kind": event.kind.value}


def _retrying(event: Retrying) -> tuple[str, dict[str, Any]]:
    return "retry", {
        "call": event.call,
        "error": _text(event.error),
        "attempt": event.attempt,
        "wait_s": round(event.wait_s, 3),
        # JSON has no infinity.
        "left_s": round(event.left_s, 3) if math.isfinite(event.left_s) else None,
    }


def _failed(event: EntityFailed) -> tuple[str, dict[str, Any]]:
    failure = event.failure
    return "failure", {
        "key": _text(failure.key),
        "step": failure.step,
        "error": _text(failure.error),
        "failed": event.failed,
        "max_failures": event.max_failures,
    }


def _gate(event: GatePassed) -> tuple[str, dict[str, Any]]:
    result = event.result
    return "gate", {
        "passed": result.passed,
        "counts": result.counts.named(),
        "elapsed_s": round(result.elapsed_s, 3),
        "checked_before": result.checked,
    }


def _steered(event: Steered) -> tuple[str, dict[str, Any]]:
    steering, tuning = event.steering, event.steering.tuning
    return "steered", {
        "verb": event.verb.value,
        "state": steering.state.value,
        "by": _text(steering.by),
        "asked_at": steering.at,
        "max_rate": tuning.max_rate,
        "in_flight": tuning.in_flight,
        "batch_size": tuning.batch_size,
        "message": _text(event.message),
    }


def _unix(when: datetime | None) -> float | None:
    return when.timestamp() if when is not None else None


def _ended(event: RunEnded) -> tuple[str, dict[str, Any]]:
    report = event.report
    return "end", {
        "state": report.state.value,
        "reason": _text(report.reason),
        "exit_code": int(report.exit_code),
        "counts": report.counts.named(),
        "total": report.total,
        "elapsed_s": round(report.elapsed_s, 3),
        "retries": report.retries,
        "successor": report.successor,
    }


_WRITERS: Mapping[type[Any], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    RunStarted: _started,
    Warned: _warned,
    Retrying: _retrying,
    EntityFailed: _failed,
    Logged: lambda event: ("log", {"line": _text(event.line)}),
    GatePassed: _gate,
    Steered: _steered,
    Held: lambda event: ("held", {"why": _text(event.why), "until": _unix(event.until)}),
    Released: lambda event: ("released", {"held_s": round(event.held_s, 3)}),
    RunEnded: _ended,
}


def _text(text: str) -> str:
    cut = text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + "…"
    return encodable(str(cut))


def _as_json(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.value if isinstance(value, Enum) else str(value)
