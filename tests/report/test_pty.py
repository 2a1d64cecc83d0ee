"""What is left on the screen of a real terminal after a run, whatever was drawn meanwhile."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

from tests.report.samples import ROOT

SCRIPT = """
import itertools
from bulkup.core.events import EntityFailed, RunEnded, WouldChange
from bulkup.report import make_printer
from tests.report.samples import failure, interrupted, progress, started

with make_printer(clock=itertools.count().__next__) as printer:
    printer(started(dry_run=True))
    printer(progress(100))
    printer(WouldChange("Key('City', 1)", "put"))
    printer(progress(200))
    print("printed by the updater")
    printer(EntityFailed(failure(7), 1, 5))
    printer(progress(300, waiting="UNAVAILABLE"))
    printer(RunEnded(interrupted()))
"""


def _screen(output: str, width: int) -> list[str]:
    """What a terminal shows after `output`; knows only the few controls that rich uses."""
    lines: dict[int, list[str]] = {0: []}
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", output, re.S):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
        elif token.startswith("\x1b["):
            final, count = token[-1], int(re.sub(r"\D", "", token) or 1)
            if final == "A":
                row = max(row - count, 0)
            elif final == "K":
                assert token == "\x1b[2K"
                lines[row] = []
            else:
                assert final in "mhl", token
        else:
            line = lines.setdefault(row, [])
            line.extend(" " * (column + 1 - len(line)))
            line[column] = token
            column += 1
            assert column <= width, "wrapped: the row count would be wrong from here on"
    return ["".join(lines.get(number, [])).rstrip() for number in range(max(lines) + 1)]


def test_a_run_on_a_terminal_leaves_its_results_and_no_trace_of_the_bar() -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": ROOT, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
    )
    os.close(follower)
    received = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([leader], [], [], 60)
        try:
            chunk = os.read(leader, 65536) if ready else b""
        except OSError:  # Linux says EIO when the last process has closed the terminal
            chunk = b""
        if not chunk:
            break
        received += chunk
    os.close(leader)
    assert process.wait(60) == 0
    output = received.decode()
    assert "300 of 34,006 (0%)" in output
    assert "waiting: UNAVAILABLE" in output
    shown = _screen(output, 120)
    assert "(0%)" not in "".join(shown)
    assert "waiting" not in "".join(shown)
    kept = [line for line in shown if line]
    assert kept[:5] == [
        "Dry run of AddFullName (Backfill full_name on every Person.) on project shop-prod",
        "Nothing will be written.",
        "Key('City', 1) would be written (no property changes)",
        "printed by the updater",
        "Failed: Key('City', 7): the updater raised ValueError: no latitude",
    ]
    assert kept[5] == "Interrupted; nothing is lost."
    assert kept[-1] == "Continue with: bulkup resume 20260102-030405-3f9a"
