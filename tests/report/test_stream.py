from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

import pytest

from bulkup.report.stream import Stream
from tests.report.samples import ROOT

PRINT_A_RUN = """
import sys
from bulkup.core.events import RunEnded, WouldChange
from bulkup.report import make_printer
from tests.report.samples import progress, report, started

quiet = sys.argv[1] == "quiet"
with make_printer(json=sys.argv[1] == "json", quiet=quiet, verbose=1) as printer:
    printer(started(dry_run=True))
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    for number in range(5_000):
        printer(progress(number))
        print("from the updater")
        if quiet:
            continue
        printer(WouldChange(f"Key('City', {number})", "put"))
    printer(RunEnded(report(dry_run=True)))
print("after the run")
sys.exit(3)
"""


def _run_with_stdout(kind: str, stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRINT_A_RUN, kind],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


@pytest.mark.parametrize("kind", ["json", "terminal", "quiet"])
def test_a_closed_pipe_neither_ends_the_run_nor_causes_a_traceback(kind: str) -> None:
    reading, writing = os.pipe()
    process = _run_with_stdout(kind, writing)
    os.close(writing)
    assert process.stderr is not None
    while process.stderr.readline() != "ready\n":
        pass
    os.close(reading)
    _, errors = process.communicate("go\n", timeout=60)
    assert process.returncode == 3
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert errors.count("its reader has closed it") == 1
    if kind != "json":
        assert "Dry run; nothing was written: 34,006 entities handled" in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
@pytest.mark.parametrize("kind", ["json", "terminal", "quiet"])
def test_a_full_disk_under_stdout_is_reported_and_the_run_continues(kind: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = _run_with_stdout(kind, full)
    os.close(full)
    _, errors = process.communicate("go\n", timeout=60)
    assert process.returncode == 3
    assert "Traceback" not in errors
    assert errors.count("No space left on device") == 1


def test_a_closed_stream_drops_what_it_is_given() -> None:
    raw = io.StringIO()
    raw.close()
    told: list[str] = []
    stream = Stream(raw, told.append)
    assert not stream.isatty()
    stream.line("x")
    stream.line("y")
    assert stream.lost
    assert len(told) == 1


def test_what_the_encoding_lacks_is_escaped() -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Stream(raw).line("1 → 2")
    raw.seek(0)
    assert raw.read() == "1 \\u2192 2\n"


def test_a_stream_can_replace_stdout() -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = Stream(raw)
    assert stream.buffer is raw.buffer
    assert stream.errors == "strict"
    print("a", 1, file=cast(IO[str], stream), flush=True)
    raw.seek(0)
    assert raw.read() == "a 1\n"
