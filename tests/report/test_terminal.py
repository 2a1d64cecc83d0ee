from __future__ import annotations

import io
import re
import sys

import pytest

from bulkup.core.errors import UsageError
from bulkup.core.events import (
    Counts,
    EntityFailed,
    Failure,
    Held,
    Logged,
    PropertyChange,
    Released,
    Retrying,
    RunEnded,
    Steered,
    TargetInfo,
    Warned,
    WouldChange,
)
from bulkup.core.steering import Steering, SteerState, Verb
from bulkup.report import Delivery, Printer, make_printer
from tests.report.samples import (
    ENDED,
    HOSTILE,
    RESUME,
    RUN_ID,
    Clock,
    Screen,
    dangers,
    failure,
    hostile_report,
    interrupted,
    progress,
    report,
    started,
    with_failures,
)

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Desk:
    """A printer, its two outputs and its clock."""

    def __init__(
        self, *, out_tty: bool = False, err_tty: bool = False, quiet: bool = False, verbose: int = 0
    ) -> None:
        self.out: io.StringIO = Screen() if out_tty else io.StringIO()
        self.err: io.StringIO = Screen() if err_tty else io.StringIO()
        self.clock = Clock()
        self.printer: Printer = make_printer(
            quiet=quiet,
            verbose=verbose,
            out=self.out,
            err=self.err,
            clock=self.clock,
            now=lambda: ENDED,
        )

    def seen(self) -> str:
        """stderr without its styling."""
        return ESCAPE.sub("", self.err.getvalue())

    def results(self) -> str:
        return ESCAPE.sub("", self.out.getvalue())


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


def every_event(printer: Printer, text: str) -> None:
    target = TargetInfo(text)
    fail = Failure(text, text, text, text)
    with printer:
        printer(
            started(run_id=text, updater=text, description=text, target=target, params={text: text})
        )
        printer(progress(waiting=text, rate_limit=text))
        printer(Retrying(text, text, 1, 2.0, 60.0))
        printer(EntityFailed(fail, 1, -1))
        printer(Logged(text))
        printer(Steered(Verb.PAUSE, Steering(SteerState.PAUSED, by=text, at=1.0), text))
        printer(Held(text))
        printer(Released(1.0))
        printer(Warned(text))
        printer(WouldChange(text, text, (PropertyChange(text, text, text),)))
        printer(progress(waiting=text, rate_limit=text))
        printer(RunEnded(hostile_report()))
        printer.delivered(Delivery("mail", False, "no"))
        printer.error(UsageError(text, details=text))


def test_without_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    desk = Desk()
    desk.printer(started())
    before = desk.err.getvalue()
    for _ in range(95):
        desk.clock.now += 0.5
        desk.printer(progress(retries=2))
    lines = desk.err.getvalue()[len(before) :].splitlines()
    assert (
        lines
        == [
            "03:05:17 UTC  12,345 of 34,006 (36%), 1,234/s, 18 s left, 12,345 written, 0 failed, "
            "2 retries"
        ]
        * 4
    )
    assert desk.out.getvalue() == ""


def test_a_line_says_what_is_waited_for_and_estimates_no_end_meanwhile() -> None:
    desk = Desk()
    desk.printer(started())
    desk.clock.now += 10
    desk.printer(progress(waiting="UNAVAILABLE, next try in 8 s (attempt 4)"))
    last = desk.seen().splitlines()[-1]
    assert last.endswith("; waiting: UNAVAILABLE, next try in 8 s (attempt 4)")
    assert " left" not in last


@pytest.mark.parametrize("terminal", [False, True])
def test_the_rate_limit_and_its_reason_are_in_the_line(terminal: bool) -> None:
    desk = Desk(err_tty=terminal)
    with desk.printer as printer:
        printer(started())
        desk.clock.now += 10
        printer(progress(rate_limit="ramp-up 750/s, next step in 3:10"))
        assert "12,345 written, 0 failed; ramp-up 750/s, next step in 3:10" in desk.seen()
        before = len(desk.seen())
        desk.clock.now += 10
        printer(progress(rate_limit="slowed to 350/s: ABORTED, next try in 0:30", waiting="Commit"))
        line = desk.seen()[before:]
        assert line.index("; slowed to 350/s: ABORTED, next try in 0:30") < line.index("waiting: ")
        before = len(desk.seen())
        desk.clock.now += 10
        printer(progress())
        assert "0 failed;" not in desk.seen()[before:]


def test_where_the_server_cannot_count_there_is_no_percentage_and_no_estimate() -> None:
    desk = Desk()
    desk.printer(started())
    desk.clock.now += 10
    desk.printer(progress(total=None))
    last = desk.seen().splitlines()[-1]
    assert "12,345 handled, 1,234/s, 10 s so far" in last
    assert "%" not in last


def test_more_entities_than_were_counted_are_at_most_100_percent() -> None:
    for terminal in (False, True):
        desk = Desk(err_tty=terminal)
        desk.printer(started())
        desk.clock.now += 10
        desk.printer(progress(40000))
        assert "40,000 of 34,006 (100%)" in desk.seen()
        desk.printer.close()


def test_on_a_terminal_there_is_a_bar_that_is_gone_at_the_end() -> None:
    desk = Desk(out_tty=True, err_tty=True)
    with desk.printer as printer:
        printer(started())
        printer(progress(waiting="UNAVAILABLE, next try in 8 s (attempt 4)", retries=1))
        seen = desk.seen()
        assert "━" in seen
        assert "12,345 of 34,006 (36%), 1,234/s" in seen
        assert "12,345 written, 0 failed, 1 retry" in seen
        assert "waiting: UNAVAILABLE, next try in 8 s (attempt 4)" in seen
        assert "03:05:17 UTC" not in seen
        before = len(desk.err.getvalue())
        printer(RunEnded(report()))
        assert "\x1b[2K" in desk.err.getvalue()[before:]
    assert "Finished: 34,006 entities handled" in desk.results()
    assert desk.err.getvalue().rindex("\x1b[?25h") > desk.err.getvalue().rindex("\x1b[?25l")


def test_the_bar_is_drawn_at_most_ten_times_a_second() -> None:
    desk = Desk(err_tty=True)
    with desk.printer as printer:
        printer(started())
        for number in range(1000):
            desk.clock.now += 0.01
            printer(progress(number))
        assert 90 <= desk.seen().count(" of 34,006") <= 101


def test_the_cursor_stays_visible_while_the_bar_is_drawn() -> None:
    desk = Desk(err_tty=True)
    desk.printer(started())
    desk.printer(progress())
    drawn = desk.err.getvalue()
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    desk.printer.close()


def test_a_narrow_terminal_is_not_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    desk = Desk(err_tty=True)
    with desk.printer as printer:
        printer(started(updater="A" * 100))
        before = len(desk.seen())
        printer(progress(waiting="w" * 200))
        frame = desk.seen()[before:]
    assert max(len(line) for line in re.split(r"[\r\n]+", frame)) <= 40


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    desk = Desk(err_tty=True)
    desk.printer(started())
    desk.clock.now += 10
    desk.printer(progress())
    assert "03:05:17 UTC  12,345 of 34,006" in desk.seen()
    assert "\x1b" not in desk.err.getvalue()


def test_colours_forced_by_the_environment_stay_out_of_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    desk = Desk(verbose=1)
    every_event(desk.printer, "x")
    assert "\x1b" not in desk.out.getvalue() + desk.err.getvalue()


def test_results_go_to_stdout_and_all_else_to_stderr() -> None:
    desk = Desk()
    with desk.printer as printer:
        printer(started())
        printer(EntityFailed(failure(5), 1, 3))
        printer(Warned("odd"))
        printer(RunEnded(with_failures(1, 1)))
    assert desk.out.getvalue().startswith("Finished, but 1 entity failed: ")
    assert "Failed: Key('City', 5): the updater raised ValueError: no latitude" in desk.seen()
    assert "Warning: odd" in desk.seen()
    assert "Finished" not in desk.seen()


def test_quiet_leaves_the_summary_and_errors() -> None:
    for terminal in (False, True):
        desk = Desk(out_tty=terminal, err_tty=terminal, quiet=True)
        with desk.printer as printer:
            printer(started())
            desk.clock.now += 60
            printer(progress())
            printer(Warned("odd"))
            printer(WouldChange("Key('City', 1)", "put"))
            printer.delivered(Delivery("file", True, "Report saved: x"))
            assert desk.seen() == ""
            printer(EntityFailed(failure(5), 1, 3))
            printer.delivered(Delivery("mail", False, "not mailed"))
            printer(RunEnded(interrupted()))
        assert [line.split(":")[0] for line in desk.seen().splitlines()] == ["Failed", "not mailed"]
        assert "Interrupted; nothing is lost." in desk.results()
        assert "Key('City', 1)" not in desk.results()


def test_a_million_failures_do_not_bury_the_terminal() -> None:
    desk = Desk()
    desk.printer(started())
    for number in range(1, 1001):
        desk.printer(EntityFailed(failure(number), number, -1))
    assert desk.seen().count("Failed: ") == 20
    assert f"bulkup show {RUN_ID} names them all" in desk.seen()
    chatty = Desk(verbose=1)
    chatty.printer(started())
    for number in range(1, 1001):
        chatty.printer(EntityFailed(failure(number), number, -1))
    assert chatty.seen().count("Failed: ") == 1000


def test_a_dry_run_shows_the_first_changes_and_counts_the_rest() -> None:
    desk = Desk()
    with desk.printer as printer:
        printer(started(dry_run=True))
        for number in range(25):
            changes = (
                PropertyChange("name", "'Koln'", "'Köln'"),
                PropertyChange("born", None, "1900"),
                PropertyChange("old", "3", None),
            )
            printer(WouldChange(f"Key('City', {number})", "put", changes))
        counts = Counts(handled=25, puts=25)
        printer(RunEnded(report(dry_run=True, counts=counts, total=25)))
    lines = desk.out.getvalue().splitlines()
    assert lines[:4] == [
        "Key('City', 0) would be written",
        "    name: 'Koln' → 'Köln'",
        "    born: (new) → 1900",
        "    old: 3 → (removed)",
    ]
    assert desk.out.getvalue().count("would be written") == 10
    assert "Dry run; nothing was written: 25 entities handled, would write 25" in desk.results()
    assert "The first 10 changes are shown above, 15 more are not" in desk.results()
    assert "Nothing will be written." in desk.seen()


def test_each_of_several_dry_runs_counts_its_own_changes() -> None:
    desk = Desk(quiet=True)
    with desk.printer as printer:
        for changes in (3, 5):  # an undo of a chain, say
            printer(started(dry_run=True))
            for number in range(changes):
                printer(WouldChange(f"Key('City', {number})", "put"))
            printer(RunEnded(report(dry_run=True, counts=Counts(handled=changes, puts=changes))))
    assert "3 changes not shown" in desk.results()
    assert "5 changes not shown" in desk.results()


def test_verbose_shows_all_changes_logs_and_retries() -> None:
    desk = Desk(verbose=1)
    with desk.printer as printer:
        printer(started(dry_run=True))
        for number in range(25):
            printer(WouldChange(f"Key('City', {number})", "delete"))
        printer(Logged("hello"))
        printer(Retrying("Commit", "UNAVAILABLE: gone", 3, 8.0, 540.0))
        printer(RunEnded(report(dry_run=True)))
    assert desk.out.getvalue().count("would be deleted") == 25
    assert "All 25 changes are shown above." in desk.out.getvalue()
    assert "log: hello" in desk.seen()
    assert (
        "Commit failed, attempt 3 (UNAVAILABLE: gone); trying again in 8.0 s, giving up in 9 min"
        in desk.seen()
    )


def test_a_huge_value_is_cut_in_the_diff() -> None:
    desk = Desk()
    desk.printer(WouldChange("k", "put", (PropertyChange("text", "a" * 10**6, "b"),)))
    assert "… (1,000,000 characters) → b" in desk.out.getvalue()
    assert len(desk.out.getvalue()) < 400


def test_a_resumed_run_says_what_is_already_done() -> None:
    desk = Desk()
    desk.printer(started(resumed=True, already=Counts(handled=12000, puts=12000)))
    assert "Resuming AddFullName" in desk.seen()
    assert "12,000 entities already handled, and skipped" in desk.seen()


def test_the_resume_command_is_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    desk = Desk(out_tty=True, err_tty=True)
    with desk.printer as printer:
        printer(RunEnded(interrupted()))
    assert desk.results().count(RESUME) == 1
    assert desk.results().endswith(f"Continue with: {RESUME}\n")


@pytest.mark.parametrize("out_tty", [False, True])
@pytest.mark.parametrize("err_tty", [False, True])
def test_hostile_strings_are_shown_and_not_obeyed(out_tty: bool, err_tty: bool) -> None:
    desk = Desk(out_tty=out_tty, err_tty=err_tty, verbose=1)
    every_event(desk.printer, HOSTILE)
    for shown in (desk.seen(), desk.results()):
        assert not [char for char in dangers(shown) if char not in "\r"]
        assert "\\x1b]0;owned\\x07" in shown.replace("\n", "")
    everything = desk.err.getvalue() + desk.out.getvalue()
    assert "[bold red]x[/bold red][/nope]" in desk.seen()
    assert ":smile:" in desk.seen()
    for harm in ("\x1b]", "\x1b[2J", "\nBcc:"):
        assert harm not in everything


def test_what_an_updater_prints_appears_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(out_tty=True, err_tty=True)
    monkeypatch.setattr(sys, "stdout", desk.out)
    monkeypatch.setattr(sys, "stderr", desk.err)
    with desk.printer as printer:
        printer(started())
        printer(progress())
        print("from the updater")
        assert "from the updater\n" in desk.seen()
    assert sys.stdout is desk.out
    assert sys.stderr is desk.err


def test_a_redirected_stdout_keeps_what_an_updater_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(out_tty=False, err_tty=True)
    monkeypatch.setattr(sys, "stdout", desk.out)
    monkeypatch.setattr(sys, "stderr", desk.err)
    with desk.printer as printer:
        printer(started())
        printer(progress())
        print("from the updater")
    assert desk.out.getvalue() == "from the updater\n"
    assert "from the updater" not in desk.seen()


def test_an_error_is_a_sentence_and_its_details() -> None:
    desk = Desk()
    desk.printer.error(UsageError("no such thing", details="a\nb\n"))
    assert desk.seen() == "Error: no such thing\n  a\n  b\n"
    assert desk.out.getvalue() == ""


def test_an_exception_leaves_no_bar_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(err_tty=True)
    before = sys.stderr

    def fail() -> None:
        with desk.printer as printer:
            printer(started())
            printer(progress())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert desk.err.getvalue().endswith("\x1b[2K\x1b[?25h\x1b[?2026l")
    assert sys.stderr is before


@pytest.mark.parametrize("rate", [0.0, 1e-300, float("inf"), float("nan")])
def test_an_odd_rate_gives_no_estimate_and_breaks_nothing(rate: float) -> None:
    desk = Desk(verbose=1)
    desk.printer(started())
    desk.clock.now += 10
    desk.printer(progress(rate=rate))
    assert "12,345 of 34,006" in desk.seen()
    assert " d left" not in desk.seen()
    desk.printer(Retrying("Commit", "x", 3, 8.0, float("inf")))
    assert desk.seen().endswith("trying again in 8.0 s\n")
