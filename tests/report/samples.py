"""Events and reports to print, harmless and hostile."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bulkup.core.errors import Exit
from bulkup.core.events import (
    Counts,
    Failure,
    Progress,
    Report,
    RunStarted,
    RunState,
    SpaceResult,
    TargetInfo,
)

STARTED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
ENDED = datetime(2026, 1, 2, 3, 5, 17, 978000, tzinfo=timezone.utc)
ROOT = str(Path(__file__).parents[2])
"""For child processes that import bulkup and these tests."""
RUN_ID = "20260102-030405-3f9a"
RESUME = f"bulkup resume {RUN_ID}"

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m[bold red]x[/bold red][/nope]<script>alert(1)</script>"
    "\r\nBcc: evil@example.com\u202eoslaf\u2028\x7f\ud800 :smile: \"'&"
)
"""Retitles the window, clears the screen, C1, markup (also unbalanced), HTML, a header, bidi."""

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "add.py", line 8, in handle_entity\n'
    '    raise ValueError("no latitude")\n'
    "ValueError: no latitude\n"
)


def failure(number: int) -> Failure:
    return Failure(f"Key('City', {number})", "handle", "ValueError: no latitude", TRACEBACK)


def report(**changes: Any) -> Report:
    whole = Report(
        run_id=RUN_ID,
        updater="AddFullName",
        description="Backfill full_name on every Person.",
        target=TargetInfo("shop-prod", namespace="eu"),
        params={"sep": "-"},
        dry_run=False,
        state=RunState.FINISHED,
        reason="",
        exit_code=Exit.DONE,
        counts=Counts(handled=34006, puts=34006),
        total=34006,
        started=STARTED,
        ended=ENDED,
        elapsed_s=72.3,
        retries=0,
    )
    return replace(whole, **changes)


def with_failures(count: int, kept: int, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "counts": Counts(handled=34006, puts=34006 - count, failed=count),
        "failures": tuple(failure(number) for number in range(kept)),
        "exit_code": Exit.DONE_WITH_FAILURES,
        "max_failures": -1,
    }
    return report(**{**fields, **changes})


def interrupted(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "state": RunState.INTERRUPTED,
        "exit_code": Exit.SIGINT,
        "counts": Counts(handled=1200, puts=1200),
        "reason": "Ctrl-C was pressed",
        "next_command": RESUME,
    }
    return report(**{**fields, **changes})


def hostile_report(**changes: Any) -> Report:
    """Every string that is not ours is `HOSTILE`."""
    fields: dict[str, Any] = {
        "run_id": HOSTILE,
        "updater": HOSTILE,
        "description": HOSTILE,
        "target": TargetInfo(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        "params": {HOSTILE: HOSTILE},
        "state": RunState.FAILED,
        "exit_code": Exit.FAILED,
        "reason": HOSTILE,
        "spaces": (SpaceResult(HOSTILE, HOSTILE, RunState.FAILED, Counts(failed=1), note=HOSTILE),),
        "appeared": (HOSTILE,),
        "failures": (Failure(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        "counts": Counts(handled=9, failed=9),
        "warnings": (HOSTILE,),
        "log_lines": (HOSTILE,),
        "log_total": 5,
        "state_file": HOSTILE,
        "next_command": HOSTILE,
    }
    return report(**{**fields, **changes})


def started(**changes: Any) -> RunStarted:
    whole = RunStarted(
        run_id=RUN_ID,
        updater="AddFullName",
        description="Backfill full_name on every Person.",
        target=TargetInfo("shop-prod"),
        params={},
    )
    return replace(whole, **changes)


def progress(handled: int = 12345, total: int | None = 34006, **changes: Any) -> Progress:
    whole = Progress(Counts(handled=handled, puts=handled), total, elapsed_s=10.0, rate=1234.0)
    return replace(whole, **changes)


class Screen(io.StringIO):
    """Text output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


DANGEROUS = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0)) if c != 0x0A] + list(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029\ufeff"
)


def dangers(text: str) -> list[str]:
    """The characters in `text` that a terminal or a reader would obey rather than show."""
    return [char for char in DANGEROUS if char in text] + [
        char for char in text if 0xD800 <= ord(char) < 0xE000
    ]
