"""What a terminal shows while a run works, on a terminal in memory."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from bulkup.core import stop
from bulkup.core.events import EntityFailed, Failure, RunEnded, Warned
from bulkup.core.vitals import Phase, ShardVitals, Vitals, Waits
from bulkup.report import Printer, ProgressStyle, make_printer
from bulkup.report.rate_history import MOST_BINS, RateHistory, sparkline
from tests.report.samples import (
    ENDED,
    HOSTILE,
    TRACEBACK,
    Clock,
    Screen,
    dangers,
    failure,
    progress,
    report,
    started,
)
from tests.report.screens import Terminal

pytestmark = pytest.mark.sampled(5)

VITALS = Vitals(
    in_flight=4,
    in_flight_limit=8,
    batch_size=500,
    latency_median_s=0.0123,
    latency_p99_s=0.085,
    limit_per_s=1500,
    limit_why="ramp-up",
    conflicts=2,
    retries_by={"Commit: UNAVAILABLE": 3, "RunQuery: ABORTED": 1},
    waits=Waits(3, 12, 5, 1, 0),
)


class Desk:
    """A printer and the terminal that it draws on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int = 24) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(rows))
        self.err = Screen()
        self.clock = Clock()
        self.terminal = Terminal(columns, rows)
        self._fed = 0
        self.printer: Printer = make_printer(
            out=io.StringIO(), err=self.err, clock=self.clock, now=lambda: ENDED
        )
        self.printer(started())

    def runs(self, seconds: int, *, total: int | None = 34_006, **changes: Any) -> None:
        """So many seconds at 300 entities each."""
        for second in range(1, seconds + 1):
            self.clock.now += 1
            done = progress(300 * second, total, elapsed_s=float(second), rate=300.0)
            changes.setdefault("vitals", VITALS)
            self.printer(replace(done, **changes))

    def lines(self) -> list[str]:
        """What is on the screen now."""
        output = self.err.getvalue()
        self.terminal.feed(output[self._fed :])
        self._fed = len(output)
        return self.terminal.lines


SHARDS = tuple(ShardVitals(number, 1000 * number, number / 40) for number in range(1, 33))


def test_at_80_columns_each_row_has_one_thing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 80)
    desk.runs(40, rate_limit="ramp-up 1,500/s, next step in 3:10", retries=4)
    traceback = TRACEBACK.replace("add.py", "/home/ann/migrations/add.py")
    desk.printer(EntityFailed(replace(failure(7), traceback=traceback), 1, -1))
    lines = desk.lines()
    assert lines[:3] == [
        "Running AddFullName (Backfill full_name on every Person.) on project shop-prod",
        "Run 20260102-030405-3f9a",
        "Failed: Key('City', 7): the updater raised ValueError: no latitude",
    ]
    assert lines[3].startswith("AddFullName ━━━")
    assert lines[3].endswith(" 12,000 of 34,006 (35%), 1 min 13 s left")
    assert lines[4] == "  12,000 written, 0 failed"
    assert lines[5].startswith("  rate    ████")
    assert lines[5].endswith(" 300/s; ramp-up 1,500/s, next step in 3:10")
    assert lines[6:9] == [
        "  commits 4 of 8 in flight, median 12 ms, p99 85 ms, up to 500 entities each",
        "  resent  3 × Commit: UNAVAILABLE, 1 × RunQuery: ABORTED; handled again: 2 conf…",
        "  time    handling 57%, committing 24%, reading 14%, paced 5%",
    ]
    assert len(lines) == 9  # the failure is drawn with the next progress
    desk.clock.now += 1
    desk.printer(progress(12_300, elapsed_s=41.0, vitals=VITALS))
    assert desk.lines()[-1] == "  failed  1 × ValueError: no latitude (add.py:8 in handle_entity)"
    assert max(map(len, desk.lines())) <= 80


def test_200_columns_have_two_facts_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 200, 50)
    desk.runs(40, vitals=replace(VITALS, shards=SHARDS[:8], shards_waiting=3, shards_done=2))
    lines = desk.lines()
    rate = next(line for line in lines if "  rate " in line)
    assert "commits 4 of 8 in flight" in rate
    resent = next(line for line in lines if "  resent " in line)
    assert "handled again: 2 conflicts" in resent
    assert "time    handling 57%" in resent
    shards = lines.index("  shards  8 in progress, 3 waiting, 2 done")
    assert lines[shards + 1].count("%") == 5  # shards in a row
    assert len(lines[shards + 1]) > 180
    assert max(map(len, lines)) <= 200


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50), (140, 30), (61, 24)])
def test_many_shards_are_added_up_and_frames_leave_no_trace(
    monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
) -> None:
    desk = Desk(monkeypatch, columns, rows)
    for number in range(30):
        desk.runs(2, vitals=replace(VITALS, shards=SHARDS[: 1 + number], shards_waiting=1))
        desk.printer(EntityFailed(failure(number), number + 1, -1))
    lines = desk.lines()
    assert sum(line.startswith("AddFullName ") for line in lines) == 1
    assert sum(line.startswith("  shards  ") for line in lines) == 1
    assert any(" more shards, " in line for line in lines)
    seen = [*desk.terminal.scrolled, *lines]
    assert sum(line.startswith("AddFullName ") for line in seen) == 1
    whole = "\n".join(seen)
    for number in range(20):  # what was printed above can be scrolled back to, and copied
        assert f"Failed: Key('City', {number}): " in whole.replace("\n", "")


def test_a_low_terminal_keeps_what_matters_most(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 80, 6)
    desk.printer(EntityFailed(failure(1), 1, -1))
    vitals = replace(VITALS, shards=SHARDS, phase=Phase.HELD, why="the health check says no")
    desk.runs(10, vitals=vitals)
    drawn = desk.lines()[-4:]
    assert drawn[0].startswith("AddFullName ━")
    assert drawn[1] == "  3,000 written, 0 failed"
    assert drawn[2].startswith("  rate ")
    assert drawn[3] == "  held: the health check says no"


def test_a_narrow_terminal_gets_a_fact_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 40)
    desk.runs(10, vitals=replace(VITALS, shards=SHARDS))
    drawn = desk.lines()[-5:]
    assert drawn[0].endswith("─ 8%")
    assert drawn[1:] == ["3,000 of 34,006 (8%)", "300/s", "1 min 43 s left", "0 failed"]


def test_an_unknown_total_promises_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 80)
    bars = set()
    for _ in range(4):
        desk.runs(1, total=None)
        desk.clock.now += 7
        desk.printer(progress(3000, None, elapsed_s=desk.clock.now - 1000, vitals=VITALS))
        bars.add(desk.lines()[2])
    assert len(bars) > 1  # it moves
    assert all("┄" in bar and "%" not in bar and " left" not in bar for bar in bars)
    assert desk.lines()[2].endswith("3,000 handled, 32 s so far")


@pytest.mark.parametrize(
    ("phase", "shown"), [(Phase.PAUSED, "paused: by anna@host"), (Phase.HELD, "held: by anna@host")]
)
def test_a_pause_says_why_and_estimates_no_end(
    monkeypatch: pytest.MonkeyPatch, phase: Phase, shown: str
) -> None:
    desk = Desk(monkeypatch, 80)
    desk.runs(10, vitals=replace(VITALS, phase=phase, why="by anna@host"))
    lines = desk.lines()
    assert lines[-1] == f"  {shown}"
    assert " left" not in "".join(lines)
    assert "10 s so far" in "".join(lines)


@pytest.mark.parametrize("columns", [200, 80, 50])
def test_what_users_stored_is_inert(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    desk = Desk(monkeypatch, columns, 50)
    vitals = replace(
        VITALS,
        phase=Phase.PAUSED,
        why=HOSTILE,
        limit_why=HOSTILE,
        retries_by={HOSTILE: 2},
    )
    desk.printer(EntityFailed(Failure(HOSTILE, "handle", HOSTILE, TRACEBACK), 1, -1))
    desk.runs(3, rate_limit=HOSTILE, waiting=HOSTILE, vitals=vitals)
    desk.printer.status()
    shown = "\n".join(desk.lines())
    assert not [danger for danger in dangers(shown) if danger != "\n"]
    assert "\\x1b]0;owned" in shown.replace("\n", "")
    assert "owned" not in desk.terminal.screen.title
    own = ("\x1b[?2026", "\x1b[?25", "\x1b[2K", "\x1b[1A", "\x1b[")
    rest = desk.err.getvalue()
    for code in own:
        rest = rest.replace(code, "")
    assert not [danger for danger in dangers(rest) if danger not in "\n\r"]


def test_the_screen_is_never_taken_and_a_frame_is_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, 80)
    writes: list[str] = []
    write = desk.err.write
    monkeypatch.setattr(desk.err, "write", lambda text: (writes.append(text), write(text))[1])
    desk.runs(5)
    assert len(writes) == 5
    assert all(text.startswith("\x1b[?2026h\x1b[?25l") for text in writes)
    assert all(text.endswith("\x1b[?25h\x1b[?2026l") for text in writes)
    desk.printer(RunEnded(report()))
    desk.printer.close()
    assert "1049" not in desk.err.getvalue()
    assert "\x1b[2J" not in desk.err.getvalue()
    assert not any("━" in line for line in desk.lines())


def test_a_terminal_that_becomes_narrower_is_left_without_traces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, 100)
    desk.runs(3)
    wide = desk.err.getvalue()
    printer: Any = desk.printer
    printer._err.width = 80
    desk.runs(1)
    moved_up = desk.err.getvalue()[len(wide) :].count("\x1b[1A")
    drawn = wide[wide.rindex("\x1b[?2026h") :].count("\n")
    assert moved_up > drawn  # its longest lines take two rows by now


def test_after_others_have_written_a_frame_erases_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 80)
    desk.runs(2)
    printer: Any = desk.printer
    printer._view._moved()
    before = len(desk.err.getvalue())
    desk.runs(1)
    assert "\x1b[2K" not in desk.err.getvalue()[before:]


@pytest.mark.parametrize("columns", [100, 60])
def test_ctrl_c_leaves_its_message_and_no_old_frame(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    desk = Desk(monkeypatch, columns)
    desk.runs(3)
    desk.err.write(f"\r\n{stop.HEARD}\r\n")
    monkeypatch.setattr(stop, "times_heard", stop.times_heard + 1)
    desk.runs(1)
    lines = desk.lines()
    assert sum(" of 34,006" in line for line in lines) == 1, lines
    heard, bar = (
        next(number for number, line in enumerate(lines) if text in line)
        for text in (stop.HEARD[:50], " of 34,006")
    )
    assert heard < bar
    printer: Any = desk.printer
    printer._view._drawing.erase()
    left = "".join(desk.lines())
    assert left.endswith(stop.HEARD)
    assert left.count(stop.HEARD) == 1
    assert left.startswith("Running AddFullName")  # what was printed above is still there


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii(Screen):
        encoding = "ascii"

    monkeypatch.setattr("tests.report.test_live_view.Screen", Ascii)
    desk = Desk(monkeypatch, 80)
    desk.runs(20, vitals=replace(VITALS, shards=SHARDS[:4], retries_by={}))
    lines = desk.lines()
    assert lines[2].startswith("AddFullName ====")
    assert "rate    %%%%" in lines[4]
    assert "\n".join(lines).isascii()


# --- the status, for whoever asks ---


def test_the_status_is_one_line_above_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, 200, 30)
    desk.printer.status()
    assert desk.lines()[-1] == "03:05:17 UTC  AddFullName: began 0.0 s ago"
    desk.runs(40, retries=4)
    desk.printer.status()
    asked = next(line for line in desk.lines() if "12,000 of 34,006 (35%), 300/s" in line)
    assert asked.startswith("03:05:17 UTC  AddFullName: ")
    assert "; commits: 4 of 8 in flight, median 12 ms, p99 85 ms" in asked
    assert not asked.endswith(" ago")
    desk.clock.now += 61
    desk.printer.status()
    assert any("as of 1 min 1 s ago" in line for line in desk.lines())
    desk.printer(RunEnded(report()))
    desk.printer.status()
    assert desk.lines()[-1] == "03:05:17 UTC  no run is working now"


# --- --progress ---


def choose(style: ProgressStyle, *, as_json: bool = False, tty: bool = False) -> tuple[str, str]:
    out, err = io.StringIO(), Screen() if tty else io.StringIO()
    clock = Clock()
    with make_printer(
        out=out, err=err, json=as_json, progress=style, clock=clock, now=lambda: ENDED
    ) as printer:
        printer(started())
        clock.now += 11
        printer(progress(300, vitals=VITALS))
        printer(Warned("odd"))
        printer(RunEnded(report()))
        printer.status()
    return out.getvalue(), err.getvalue()


def test_plain_prints_lines_on_a_terminal_too() -> None:
    out, err = choose(ProgressStyle.PLAIN, tty=True)
    assert "03:05:17 UTC  300 of 34,006" in err
    assert "━" not in err
    assert "Finished: " in out


def test_tty_draws_into_a_pipe() -> None:
    out, err = choose(ProgressStyle.TTY)
    assert "\x1b[?2026h" in err
    assert "4 of 8 in flight" in err
    assert "\x1b" not in out


def test_json_prints_lines_of_json_on_stderr_and_the_summary_for_people_on_stdout() -> None:
    out, err = choose(ProgressStyle.JSON)
    kinds = [json.loads(line)["type"] for line in err.splitlines()]
    assert kinds == ["start", "progress", "warning", "summary", "progress"]
    assert json.loads(err.splitlines()[1])["vitals"]["retries_by"] == VITALS.retries_by
    assert out.startswith("Finished: 34,006 entities handled")


@pytest.mark.parametrize("style", list(ProgressStyle))
def test_with_json_stdout_has_the_same_lines_whatever_is_shown(style: ProgressStyle) -> None:
    out, err = choose(style, as_json=True)
    assert out == choose(ProgressStyle.AUTO, as_json=True)[0]
    lines = [line for line in err.splitlines() if line.startswith("{")]
    shows = {
        ProgressStyle.AUTO: "",
        ProgressStyle.PLAIN: "03:05:17 UTC  300 of 34,006",
        ProgressStyle.TTY: "4 of 8 in flight",
        ProgressStyle.JSON: '"type": "progress"',
    }
    assert shows[style] in err
    assert bool(lines) is (style is ProgressStyle.JSON)
    assert all(json.loads(line) for line in lines)


# --- the rate over time ---


def test_the_history_covers_the_whole_run_in_bounded_memory() -> None:
    history = RateHistory()
    for second in range(1, 100_001):
        history.add(float(second), 10 * second if second <= 50_000 else 500_000)
    assert len(history._bins) <= MOST_BINS
    rates = history.rates(40)
    assert len(rates) <= 40
    assert rates[0] == pytest.approx(10)
    assert rates[-1] == 0
    line = sparkline(rates)
    assert line.startswith("█" * 15)
    assert line.endswith(" " * 10)


def test_a_gap_between_two_progresses_is_filled_evenly() -> None:
    history = RateHistory(handled=500)
    history.add(1.0, 510)
    history.add(5.0, 550)
    assert history.rates(10) == pytest.approx([10.0] * 5)
    history.add(5.0, 600)  # no time has passed
    history.add(6.0, 610)
    assert history.rates(3) == pytest.approx([10, 10, 35])


def test_odd_counts_do_not_break_it() -> None:
    history = RateHistory()
    history.add(0.3, 0)
    history.add(0.7, 100)
    history.add(1e7, 50)
    assert len(history.rates(7)) <= 7
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "  "
