from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.report.text import (
    TRACEBACK_LINES,
    clean,
    clean_block,
    duration,
    iso,
    moment,
    per_second,
    plural,
    show_command,
)
from tests.report.samples import HOSTILE, dangers


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_a_clean_text_is_one_line_that_no_terminal_obeys(text: str) -> None:
    cleaned = clean(text)
    assert not dangers(cleaned)
    assert len(cleaned.splitlines()) <= 1
    cleaned.encode()


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_the_lines_of_a_block_are_each_clean(text: str) -> None:
    for line in clean_block(text):
        assert not dangers(line)
        assert len(line.splitlines()) <= 1


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert clean("a\x1b[2Jb\nc\r\td\x9be\u202ef\ud800g\x00") == (
        "a\\x1b[2Jb\\nc\\r\\td\\x9be\\u202ef\\ud800g\\x00"
    )
    assert not dangers(clean(HOSTILE))


@pytest.mark.parametrize(
    "text", ["Köln → 東京", "می\u200cخواهم", "👩\u200d🚒", "a\u00a0b", "[bold]x[/]", "C:\\new"]
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    assert clean("x" * 12345, 10) == "x" * 10 + "… (12,345 characters)"
    assert clean("\x1b" * 5, 5) == "\\x1b" * 5


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    lines = clean_block("\n".join(f"line {n}" for n in range(1000)))
    assert len(lines) == TRACEBACK_LINES + 1
    assert (lines[0], lines[-1]) == ("line 0", "line 999")
    assert "940 lines left out" in lines[TRACEBACK_LINES // 2]


def test_windows_line_ends_and_tabs_in_a_traceback_are_ordinary() -> None:
    assert clean_block("a:\r\n\tb\n") == ("a:", "    b")
    assert clean_block(" \n ") == ()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (72.3, "1 min 12 s"),
        (3599.6, "1 h"),
        (3600, "1 h"),
        (3629, "1 h"),
        (7500, "2 h 5 min"),
        (86399, "1 d"),
        (86400 + 59, "1 d"),
        (3 * 86400 + 4 * 3600 + 59, "3 d 4 h"),
        (-1, "0.0 s"),
    ],
)
def test_durations_read_like_speech(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(min_value=0, max_value=1e9))
def test_every_duration_is_one_or_two_units(seconds: float) -> None:
    assert len(duration(seconds).split()) in (2, 4)


def test_numbers_have_separators_and_nouns_a_plural() -> None:
    assert plural(1, "entity", "entities") == "1 entity"
    assert plural(2000, "entity", "entities") == "2,000 entities"
    assert plural(0, "change") == "0 changes"
    assert (per_second(1234.4), per_second(2.34), per_second(0)) == ("1,234/s", "2.3/s", "0/s")


def test_times_are_utc_wherever_they_were_taken() -> None:
    there = timezone(timedelta(hours=2))
    when = datetime(2026, 1, 2, 5, 4, 5, 678900, tzinfo=there)
    assert moment(when) == "2026-01-02 03:04:05 UTC"
    assert iso(when) == "2026-01-02T03:04:05.678Z"


def test_a_run_id_cannot_add_a_command_to_the_one_we_suggest() -> None:
    assert show_command("x; rm -rf ~") == "bulkup show 'x; rm -rf ~'"
