"""One event of a run's log, as `state/run_log.py` writes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LogEntry:
    """One event of a run. Its strings are untrusted."""

    at: float
    """Unix time."""
    runner: int
    """The generation of the runner that wrote it: 1 for the first one."""
    kind: str
    """`start`, `warning`, `retry`, `failure`, `log`, `gate`, `steered`, `held`, `released`, `end`,
    or a kind from a later version."""
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that is a string; empty if there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""


def parse_entry(raw: bytes | str) -> LogEntry | None:
    """Parse an event from its line; None if the line is not an event."""
    try:
        stored = json.loads(raw)
        at, runner, kind = float(stored.pop("at")), stored.pop("runner"), stored.pop("type")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError):
        return None
    is_one = isinstance(kind, str) and isinstance(runner, int) and math.isfinite(at)
    return LogEntry(at, runner, kind, stored) if is_one else None
