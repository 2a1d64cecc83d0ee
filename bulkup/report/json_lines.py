"""The lines that every command prints with `--json`: one object each, with the same first fields.

`schema.json` beside this file describes all of them; docs/json.md explains it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from bulkup.core.errors import BulkupError, StateError
from bulkup.report.stdout import is_process_stdout, keep_stdout, kept_stdout
from bulkup.report.stream import READER_GONE, Stream
from bulkup.report.text import iso, utc_now

VERSION = 1
"""Rises when a field is renamed or removed, or changes its meaning; not for a new field."""


class JsonLines:
    """Writes lines and flushes each. `run_id`: the run or group that the next lines are about.

    Every line is ASCII, so no line can harm a terminal.
    """

    def __init__(self, stream: Stream, now: Callable[[], datetime] = utc_now) -> None:
        self.stream = stream
        self._now = now
        self.run_id = ""

    def write(self, kind: str, fields: Mapping[str, Any], *, at: datetime | None = None) -> None:
        """Write a line. `at`: when it happened; None: now."""
        head = {
            "type": kind,
            "version": VERSION,
            "time": iso(at or self._now()),
            "run_id": self.run_id,
        }
        self.stream.line(json_text({**head, **fields}))

    def error(self, error: BulkupError) -> None:
        """Write the line for an error that ended the command."""
        fields = {
            "message": error.message,
            "details": error.details,
            "exit_code": int(error.exit_code),
            "next_steps": list(error.next_steps),
        }
        self.write("error", fields)


def stdout_lines() -> JsonLines:
    """Lines on standard output, for a command that only reads.

    Writing one raises BrokenPipeError once the reader is gone, StateError if it cannot be written.
    """
    return JsonLines(Stream(json_stdout(), _lost))


def stdout_text() -> Stream:
    """Standard output for lines that are not JSON; raises what `stdout_lines` raises."""
    return Stream(sys.stdout, _lost)


def json_stdout() -> TextIO:
    """Standard output, which nothing else writes to from now on."""
    if kept_stdout() is not None or sys.stdout is None or is_process_stdout(sys.stdout):
        return keep_stdout().stream
    return sys.stdout


def schema() -> dict[str, Any]:
    """The JSON schema of a line."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text())
    return found


def json_text(value: Any, separators: tuple[str, str] | None = None) -> str:
    """`value` as JSON, with null for each number that is not finite."""
    try:
        return json.dumps(value, allow_nan=False, separators=separators)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False, separators=separators)


def finite(value: Any) -> Any:
    """`value` with None for each number that is not finite: JSON has none, and other parsers reject
    the `Infinity` that Python writes."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return value


def _lost(why: str) -> None:
    if why == READER_GONE:
        raise BrokenPipeError
    raise StateError(f"cannot write to standard output ({why}); the output is not complete")
