"""Failures that are alike are shown once, with how many there are, in every report."""

from __future__ import annotations

import html
import io
import json
from email.message import EmailMessage
from typing import Any

import pytest

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, Failure, Report, RunEnded
from bulkup.core.failure_groups import FailureGroups
from bulkup.report import GitHubPage, mail_settings, make_printer, summarize, summary_text
from bulkup.report.html import summary_html
from bulkup.report.mail import build_message
from tests.cli.json_contract import keeps_the_contract
from tests.report.samples import ENDED, HOSTILE, RUN_ID, Clock, Screen, dangers, report

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "orders.py", line {line}, in handle_entity\n'
    "    raise ValueError(text)\n"
    "ValueError: {text}"
)


def failed(counts: dict[str, int], **changes: Any) -> Report:
    """A report on failures with these texts, so many of each."""
    failures = [
        Failure(
            f"Key('Order', {line * 10_000 + i})",
            "handle",
            f"ValueError: {text} {i}",
            TRACEBACK.format(line=line, text=text),
        )
        for line, (text, count) in enumerate(counts.items(), 1)
        for i in range(count)
    ]
    groups = FailureGroups(failures)
    fields: dict[str, Any] = {
        "counts": Counts(handled=34006, puts=34006 - len(failures), failed=len(failures)),
        "failures": tuple(failures[:20]),
        "failure_groups": groups.largest_first(),
        "other_failures": groups.others,
        "exit_code": Exit.DONE_WITH_FAILURES,
        "max_failures": -1,
    }
    return report(**{**fields, **changes})


def on_terminal(ended: Report) -> str:
    out = Screen()
    with make_printer(out=out, err=Screen(), clock=Clock(), now=lambda: ENDED) as printer:
        printer(RunEnded(ended))
    return out.getvalue()


def as_text(ended: Report) -> str:
    return summary_text(summarize(ended))


def as_page(ended: Report) -> str:
    return html.unescape(summary_html(summarize(ended)))


def mail_of(ended: Report) -> EmailMessage:
    settings = mail_settings(["d@e.f"], "a@b.c", "smtp://localhost:25")
    assert settings is not None
    return build_message(summarize(ended), settings)


def as_mail(ended: Report) -> str:
    body = mail_of(ended).get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def on_github(ended: Report) -> str:
    return html.unescape(markdown_of(ended))


def markdown_of(ended: Report) -> str:
    page = GitHubPage(None, io.StringIO())
    page.report(ended)
    return "\n".join(page._markdown)


@pytest.mark.parametrize("shown", [on_terminal, as_text, as_page, as_mail, on_github])
def test_a_thousand_alike_are_one_group_with_its_count_keys_and_traceback(shown: Any) -> None:
    text = shown(failed({"no price": 1000, "no name": 1}))
    assert "1,000 entities" in text
    assert text.count("ValueError: no price 0") == 1
    assert "Key('Order', 10000), Key('Order', 10001)" in text
    assert "and 995 more" in text
    assert text.count('orders.py", line 1, in handle_entity') == 1
    assert text.count('orders.py", line 2, in handle_entity') == 1
    assert "Key('Order', 20000)" in text  # alone, so named as before
    assert f"bulkup show {RUN_ID} --failed-keys" in text


@pytest.mark.parametrize("shown", [as_text, as_page, as_mail])
def test_many_different_errors_are_bounded_and_the_rest_is_counted(shown: Any) -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    text = shown(failed(dict.fromkeys(words, 3)))
    assert text.count("3 entities") == 50
    assert f"150 more failures: bulkup show {RUN_ID}" in text


def test_the_screen_has_the_largest_groups() -> None:
    counts = {word: 10 - position for position, word in enumerate("abcdefg")}
    text = on_terminal(failed(counts))
    assert [f"{count} entities" in text for count in (10, 9, 8, 7, 6, 5)] == [True] * 5 + [False]
    assert "9 more failures" in text


def test_in_json_keys_are_data_there_too() -> None:
    out = io.StringIO()
    printer = make_printer(json=True, out=out, err=io.StringIO(), now=lambda: ENDED)
    printer(RunEnded(failed({"no price": 1000})))
    line = json.loads(out.getvalue())
    keeps_the_contract([line])
    (group,) = line["failure_groups"]
    assert (group["count"], group["place"]) == (1000, "orders.py:1 in handle_entity")
    assert group["typed_keys"][0] == {"path": [["Order", 10000]], "namespace": ""}


def test_hostile_texts_are_inert_in_groups_too() -> None:
    hostile = [Failure(HOSTILE, "handle", HOSTILE, HOSTILE)] * 2
    ended = failed({"x": 1}, failure_groups=FailureGroups(hostile).largest_first())
    assert not dangers(as_text(ended))
    assert not dangers(summary_html(summarize(ended)))
    assert "<script" not in summary_html(summarize(ended))
    assert "[31m" not in on_terminal(ended).replace("\x1b[1;31m", "")
    assert "<script" not in markdown_of(ended)
    assert not dangers(markdown_of(ended))
    assert mail_of(ended)["Bcc"] is None


def test_a_dry_run_names_no_command_that_finds_nothing() -> None:
    text = as_text(failed({"no price": 1000}, dry_run=True, run_id=""))
    assert "1,000 entities: the updater raised ValueError: no price 0" in text
    assert "bulkup show" not in text
