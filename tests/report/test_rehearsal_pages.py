"""A rehearsal as text, HTML and Markdown: the same answers; what entities hold is only shown."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from markdown_it import MarkdownIt

from bulkup.core.changes import PropertyChange, WouldChange
from bulkup.core.errors import Exit
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.plan import (
    Bill,
    BillLine,
    ChangeKind,
    Estimate,
    Forecast,
    Hazard,
    PlanWarning,
    PropertyKind,
)
from bulkup.core.rehearsal import (
    CrashPass,
    Effect,
    Kill,
    PropertyEffect,
    Rehearsal,
    RehearsedOn,
    RehearsedRun,
    RehearsedWork,
    SecondRun,
    ValueSummary,
)
from bulkup.core.rehearsal_json import rehearsal_fields
from bulkup.core.selection import Selection
from bulkup.report.json_lines import finite
from bulkup.report.plan_markdown import MAX_CHARACTERS
from bulkup.report.rehearsal_html import is_rehearsal_page, rehearsal_html
from bulkup.report.rehearsal_markdown import is_rehearsal_comment, rehearsal_markdown
from bulkup.report.rehearsal_summary import summarize_rehearsal
from bulkup.report.rehearsal_terminal import rehearsal_lines
from bulkup.report.summary_model import Tone
from tests.report.samples import HOSTILE
from tests.report.tags import Tags


def effect(text: str, count: int = 60) -> Effect:
    example = WouldChange(f"Key('Item', '{text}')", "put", (PropertyChange(text, text, None),))
    kind = ChangeKind(
        "update", text, (PropertyKind(text, "string", None),), count, Estimate.exact(count),
        (example,) * 3,
    )  # fmt: skip
    values = ValueSummary((("string", count),), 2, ((text, count - 1), (text, 1)), text, text)
    gone = ValueSummary((("absent", count),), 0)
    return Effect(
        0, count, 0, (kind,), 0, (PropertyEffect(text, text, count, values, gone),),
        warnings=(PlanWarning(Hazard.NEAR_LIMIT, f"{text} is large"),),
    )  # fmt: skip


def run(text: str) -> RehearsedRun:
    return RehearsedRun(
        updater=text, description=text, params={text: text}, query=text,
        selection=Selection(kind=text), state=RunState.FINISHED, reason="",
        exit_code=Exit.DONE_WITH_FAILURES, counts=Counts(handled=70, puts=60, failed=10),
        elapsed_s=2.0, runners=1, max_failures=10,
        failure_groups=(FailureGroup("handle", f"ValueError: {text}", "", 10, (text,), text),),
        warnings=(text,), log_lines=(text,), log_total=1, check_after=True,
    )  # fmt: skip


def work(text: str = "label", **changes: Any) -> RehearsedWork:
    first = run(text)
    whole = RehearsedWork(
        text, (first,), effect(text),
        Bill((BillLine("writes", Estimate.exact(60_000), 0.18),), "USD", "nam5", text, "2026"),
        Forecast(140.0, "ramp-up", 35.0, 140.0), claims_idempotent=False,
        second=SecondRun((replace(first, counts=Counts(70, unchanged=60, failed=10)),), Effect()),
        crash=CrashPass(
            (Kill(after=True, writes=40), Kill(after=False, writes=60)), (first,), Effect()
        ),
    )  # fmt: skip
    return replace(whole, **changes)


def rehearsal(text: str = "label", *works: RehearsedWork, **changes: Any) -> Rehearsal:
    """With `text` wherever an entity, an error or the user may have a say."""
    whole = Rehearsal(
        RehearsedOn(text, True, TargetInfo("shop", text), ((text, 70),), 9000, "1%", (text,)),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "0", 12.0, works or (work(text),),
    )  # fmt: skip
    return replace(whole, **changes)


def text_of(rehearsal: Rehearsal) -> str:
    return "\n".join(line.plain for line in rehearsal_lines(summarize_rehearsal(rehearsal)))


def html_of(rehearsal: Rehearsal) -> str:
    return rehearsal_html(summarize_rehearsal(rehearsal))


def markdown_of(rehearsal: Rehearsal) -> str:
    return rehearsal_markdown(summarize_rehearsal(rehearsal))


def shown(form: Any, rehearsal: Rehearsal) -> str:
    """The words that a reader sees."""
    text = form(rehearsal)
    if form is markdown_of:
        text = MarkdownIt().enable("table").render(text)
    if form is not text_of:
        tags = Tags()
        tags.feed(text)
        text = tags.text
    return " ".join(text.split())


FORMS = (text_of, html_of, markdown_of)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_answers_the_questions(form: Any) -> None:
    text = shown(form, rehearsal())
    for part in (
        "Finishes: 10 of 70 entities fail, within the failure budget.",
        "60 entities changed.",
        "Yes: a second run handles 70 entities and changes nothing.",
        "Yes: killed twice (SIGKILL) and resumed, it ends with the same data and the same counts",
        "0.11 USD at list prices: 60,000 writes.",
        "At least 2 min 20 s on a real project",
        "check_after",
        "Kill 2: right before a commit was applied; 60 entities were written by then.",
        "a sample of 1%",
        "70 entities",
    ):
        assert part in text, (part, text)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_says_what_is_not_safe(form: Any) -> None:
    text = shown(
        form,
        rehearsal(
            "label",
            work(
                claims_idempotent=True,
                second=SecondRun((run("label"),), effect("label", 7)),
                crash=CrashPass(
                    (Kill(after=True, writes=3),), (run("label"),), effect("label", 2),
                    counts_differ=("written: 61, not 60",),
                ),
            ),
        ),
    )  # fmt: skip
    assert "No: after a second run 7 entities changed (label.label), although" in text
    assert "No: killed once (SIGKILL) and resumed, it ends with other data than without" in text
    assert "written: 61, not 60" in text
    assert "What a second run changes" in text
    assert "What is different after crashes" in text


def test_the_exit_code_is_that_of_a_run_or_4() -> None:
    assert rehearsal().exit_code == Exit.DONE_WITH_FAILURES
    unsafe = work(second=SecondRun((run("x"),), effect("x")), claims_idempotent=True)
    assert rehearsal("x", work(), unsafe).exit_code == Exit.PENDING
    assert rehearsal("x", replace(unsafe, claims_idempotent=False)).exit_code == 3
    stopped = replace(run("x"), state=RunState.FAILED, exit_code=Exit.FAILED)
    assert rehearsal("x", unsafe, work(runs=(stopped,))).exit_code == Exit.PENDING
    assert rehearsal("x", work(), work(runs=(stopped,))).exit_code == Exit.FAILED


def test_a_crash_pass_that_could_not_kill_in_between_says_so() -> None:
    assert "No kill came between" not in text_of(rehearsal())
    crash = CrashPass((Kill(after=True, writes=0), Kill(after=False, writes=60)), (), Effect())
    assert "No kill came between two of its writes" in text_of(rehearsal("x", work(crash=crash)))


def test_what_is_left_of_a_folder_is_told_first() -> None:
    stopped = replace(
        run("x"), state=RunState.FAILED, reason="too many failures", exit_code=Exit.FAILED
    )
    found = rehearsal(
        "x", work("0001_a"), work("0002_b", runs=(stopped,), second=None, crash=None),
        is_migrations=True, folder="updaters", left=("0003_c",),
    )  # fmt: skip
    summary = summarize_rehearsal(found)
    assert summary.tone is Tone.BAD
    assert summary.headline == "1 of 3 pending migrations finished; not reached: 0003_c."
    assert "Does not finish: too many failures, after 70 entities." in text_of(found)


def test_the_page_has_no_markup_of_an_entity_and_fetches_nothing() -> None:
    attack = HOSTILE + '"><img src=x onerror=alert(1)>'
    harmless, hostile = Tags(), Tags()
    harmless.feed(html_of(rehearsal()))
    hostile.feed(html_of(rehearsal(attack)))
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    assert not hostile.tags & {"script", "img", "a", "link", "iframe", "form"}
    assert "<script>alert(1)</script>" in hostile.text
    assert "default-src 'none'" in html_of(rehearsal())


MARKDOWN = (
    "@everyone #1 [x](http://evil.example) ![x](http://evil.example/x.png) <b>x</b> | a | b |",
    "```\n# out of the block",
    "</details><img src=x>",
    "<!-- bulkup rehearsal -->",
    HOSTILE,
)


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown_shows_what_entities_hold_and_obeys_none_of_it(text: str) -> None:
    # GitHub takes HTML, and so does this; what it then has may only be what we have written.
    parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
    harmless, hostile = Tags(), Tags()
    harmless.feed(parser.render(markdown_of(rehearsal())))
    hostile.feed(parser.render(markdown_of(rehearsal(text))))
    assert hostile.tags == harmless.tags
    assert not hostile.tags & {"a", "img", "script", "b"}
    sentences = markdown_of(rehearsal(text)).partition("```diff")[0]
    assert "@everyone" not in sentences
    assert "http://" not in sentences


def test_no_line_of_a_terminal_is_obeyed() -> None:
    text = text_of(rehearsal(HOSTILE))
    assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in text)
    assert "\u202e" not in text


def test_a_long_comment_is_shortened_and_keeps_its_answers() -> None:
    works = [work(f"{number:04}_" + "x" * 150) for number in range(60)]
    text = markdown_of(rehearsal("x", *works, is_migrations=True, folder="updaters"))
    assert len(text) <= MAX_CHARACTERS
    assert text.startswith("<!-- bulkup rehearsal -->\n")
    assert "60 pending migrations finished" in text


def test_the_files_are_known_again() -> None:
    assert is_rehearsal_comment(markdown_of(rehearsal()).encode())
    assert is_rehearsal_page(html_of(rehearsal()).encode())
    assert not is_rehearsal_comment(b"import bulkup")
    assert not is_rehearsal_page(b"<!-- bulkup rehearsal -->")


def test_json_has_all_of_it() -> None:
    fields = json.loads(json.dumps(finite(rehearsal_fields(rehearsal()))))
    (found,) = fields["works"]
    assert found["counts"]["failed"] == 10
    assert found["effect"]["by_property"][0]["before"]["distinct"] == 2
    assert found["crash"]["kills"][1] == {"after": False, "writes": 60}
    assert fields["exit_code"] == 3
