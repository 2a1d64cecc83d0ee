from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from bulkup.core.errors import UsageError
from bulkup.core.events import (
    Counts,
    EntityFailed,
    Failure,
    Found,
    Held,
    Logged,
    PropertyChange,
    Released,
    Retrying,
    RunEnded,
    RunState,
    Steered,
    TargetInfo,
    Warned,
    WouldChange,
)
from bulkup.core.steering import Steering, SteerState, Verb
from bulkup.report import Delivery, Printer, jsonl, make_printer
from tests.report.samples import (
    ENDED,
    HOSTILE,
    RESUME,
    ROOT,
    RUN_ID,
    Clock,
    dangers,
    failure,
    hostile_report,
    interrupted,
    progress,
    report,
    started,
)


class Desk:
    def __init__(self, *, quiet: bool = False) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.clock = Clock()
        self.printer: Printer = make_printer(
            json=True,
            quiet=quiet,
            out=self.out,
            err=self.err,
            clock=self.clock,
            now=lambda: ENDED,
        )

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=_no_constant) for line in self._lines()]

    def _lines(self) -> list[str]:
        assert self.out.getvalue().endswith("\n")
        return self.out.getvalue()[:-1].split("\n")


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def every_event(printer: Printer, text: str) -> None:
    target = TargetInfo(text)
    printer(started(run_id=text, updater=text, description=text, target=target))
    printer(progress(waiting=text, rate=math.inf, rate_limit=text))
    printer(Retrying(text, text, 1, 2.0, math.inf))
    printer(EntityFailed(Failure(text, text, text, text), 1, -1))
    printer(Logged(text))
    printer(Steered(Verb.PAUSE, Steering(SteerState.PAUSED, by=text, at=1.0), text))
    printer(Held(text))
    printer(Released(1.0))
    printer(Warned(text))
    printer(WouldChange(text, "put", (PropertyChange(text, None, text),)))
    printer(Found(Failure(text, "verify", text), 1))
    printer(RunEnded(hostile_report()))
    printer.delivered(Delivery("mail", False, "no"))
    printer.error(UsageError(text, details=text))
    printer.close()


def test_each_line_is_an_object_with_type_and_time() -> None:
    desk = Desk()
    every_event(desk.printer, "x")
    kinds = " ".join(item["type"] for item in desk.objects())
    assert kinds == (
        "start progress retry failure log steered held released warning change finding summary "
        "delivery error"
    )
    assert {item["time"] for item in desk.objects()} == {"2026-01-02T03:05:17.978Z"}
    assert all("run_id" in item for item in desk.objects())


def test_every_field_there_is_is_documented() -> None:
    desk = Desk()
    every_event(desk.printer, "x")
    documented = set(re.findall(r"\w+", jsonl.__doc__ or ""))
    for item in desk.objects():
        assert item["type"] in documented
        assert set(item) <= documented
        for name in ("target", "counts", "already"):
            assert set(item.get(name, ())) <= documented


def test_hostile_strings_arrive_exactly_and_cannot_harm_a_terminal() -> None:
    desk = Desk()
    every_event(desk.printer, HOSTILE)
    assert desk.out.getvalue().isascii()
    assert not dangers(desk.out.getvalue())
    assert not dangers(desk.err.getvalue())
    fail = next(item for item in desk.objects() if item["type"] == "failure")
    assert fail["key"] == HOSTILE
    change = next(item for item in desk.objects() if item["type"] == "change")
    assert change["changes"] == [{"name": HOSTILE, "before": None, "after": HOSTILE}]
    moment = next(item for item in desk.objects() if item["type"] == "progress")
    assert (moment["waiting"], moment["pace"]) == (HOSTILE, HOSTILE)


def test_numbers_that_json_lacks_are_null() -> None:
    desk = Desk()
    every_event(desk.printer, "x")
    by_type = {item["type"]: item for item in desk.objects()}
    assert by_type["progress"]["rate"] is None
    assert by_type["retry"]["left_s"] is None


def test_progress_comes_at_most_once_a_second() -> None:
    desk = Desk()
    for _ in range(100):
        desk.printer(progress())
        desk.clock.now += 0.1
    assert 9 <= len(desk.objects()) <= 11


def test_the_summary_has_what_a_script_needs() -> None:
    desk = Desk()
    counts = Counts(handled=1200, puts=1000, deletes=200)
    desk.printer(RunEnded(interrupted(counts=counts, failures=(failure(5),))))
    (summary,) = desk.objects()
    assert summary["run_id"] == RUN_ID
    assert summary["exit_code"] == 130
    assert summary["state"] == "interrupted"
    assert summary["success"] is False
    assert summary["next_command"] == RESUME
    assert summary["counts"]["writes"] == 1200
    assert summary["started"] == "2026-01-02T03:04:05.678Z"
    assert summary["failures"][0]["key"] == "Key('City', 5)"
    assert summary["failures"][0]["error"] == "ValueError: no latitude"
    assert summary["target"]["namespace"] == "eu"


@pytest.mark.parametrize("state", list(RunState))
def test_every_state_has_its_name(state: RunState) -> None:
    desk = Desk()
    desk.printer(RunEnded(report(state=state)))
    assert desk.objects()[0]["state"] == state.value


def test_all_failures_and_all_changes_are_printed() -> None:
    desk = Desk()
    for number in range(500):
        desk.printer(EntityFailed(failure(number), number + 1, -1))
        desk.printer(WouldChange(f"Key('City', {number})", "put"))
    kinds = [item["type"] for item in desk.objects()]
    assert (kinds.count("failure"), kinds.count("change")) == (500, 500)


def test_quiet_leaves_what_matters() -> None:
    desk = Desk(quiet=True)
    every_event(desk.printer, "x")
    kinds = " ".join(item["type"] for item in desk.objects())
    assert kinds == ("start failure steered held released warning finding summary delivery error")


def test_what_an_updater_prints_does_not_mix_with_the_objects() -> None:
    script = (
        "import sys\n"
        "from bulkup.core.events import RunEnded\n"
        "from bulkup.report import make_printer\n"
        "from tests.report.samples import progress, report, started\n"
        "with make_printer(json=True) as printer:\n"
        "    printer(started()); print('from the updater'); printer(progress())\n"
        "    printer(RunEnded(report()))\n"
        "print('afterwards')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["start", "progress", "summary"]
    assert last == "afterwards"
    assert done.stderr == "from the updater\n"


def test_json_does_not_import_rich() -> None:
    script = (
        "import sys, bulkup.report as r; r.make_printer(json=True).close(); "
        "sys.exit('rich' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        executable=sys.executable,  # from nothing
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=60,
        check=True,
    )


def test_without_a_wait_and_a_rate_limit_progress_has_empty_strings() -> None:
    desk = Desk()
    desk.printer(progress(waiting=None, rate_limit=None))
    (moment,) = desk.objects()
    assert (moment["waiting"], moment["pace"]) == ("", "")
