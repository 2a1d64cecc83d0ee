"""A plan as text, HTML and Markdown: the same numbers, and what entities hold is only shown."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from bulkup.core.changes import PropertyChange, WouldChange
from bulkup.core.events import Planned
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.model import TargetInfo
from bulkup.core.plan import (
    Bill,
    BillLine,
    ChangeKind,
    Drawn,
    Estimate,
    Forecast,
    Hazard,
    Plan,
    PlannedWork,
    PlanWarning,
    Predicted,
    PropertyKind,
    Total,
)
from bulkup.report.plan_html import is_plan_page, plan_html
from bulkup.report.plan_markdown import MAX_CHARACTERS, is_plan_comment, plan_markdown
from bulkup.report.plan_summary import summarize_plan
from bulkup.report.printers import make_printer
from tests.report.samples import HOSTILE
from tests.report.tags import Tags

ABOUT = Estimate(98_000, 93_726, 106_274)
NONE = Estimate(0, 0, 734)


def plan(text: str = "Ada", **changes: Any) -> Plan:
    """A sampled plan, with `text` wherever an entity or an error may have a say."""
    nothing = dict.fromkeys(
        ("deleted", "unchanged", "left_alone", "vanished", "changed_not_written", "other_written",
         "other_deleted", "created"), Estimate.exact(0),
    )  # fmt: skip
    example = WouldChange(
        f"Key('Person', '{text}')",
        "put",
        (PropertyChange(f"{text} name", text, None), PropertyChange("full_name", None, text)),
    )
    kind = ChangeKind(
        "update", text, (PropertyKind(text, "string", None),), 490, ABOUT, (example,) * 3
    )
    group = FailureGroup("handle", f"ValueError: {text}", "", 2, (text,), f"Traceback\n  {text}")
    whole = Plan(
        work=PlannedWork(
            text, "", "full_name.py:full_name", "", "", {"sep": text}, TargetInfo("shop", text),
            "", "", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "0",
        ),
        drawn=Drawn.SCATTER,
        handled=1000,
        total=Total.COUNTED,
        predicted=Predicted(
            handled=Estimate.exact(200_000), written=ABOUT, failed=NONE, **nothing
        ),
        kinds=(kind,),
        failure_groups=(group,),
        bill=Bill((BillLine("writes", ABOUT, 0.18),), "USD", "nam5", text, "2026-01-02"),
        forecast=Forecast(400.0, "ramp-up", 9000.0, 390.0),
        round_trip_s=0.01,
        warnings=(PlanWarning(Hazard.ONE_VALUE, f"{text} is the same"),),
    )  # fmt: skip
    return replace(whole, **changes)


def text_of(plan: Plan) -> str:
    out = io.StringIO()
    with make_printer(out=out, err=io.StringIO()) as printer:
        printer(Planned(plan))
    return out.getvalue()


def html_of(plan: Plan) -> str:
    return plan_html(summarize_plan(plan))


def markdown_of(plan: Plan) -> str:
    return plan_markdown(summarize_plan(plan))


FORMS = (text_of, html_of, markdown_of)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_the_numbers_the_intervals_and_the_examples(form: Any) -> None:
    shown = form(plan())
    for part in (
        "200,000",
        "98,000",
        "93,726 to 106,274",
        "up to 734",
        "0.18 USD",
        "1,000 entities",
    ):
        assert part.replace(",", ",") in shown.replace("&#46;", "."), part
    assert re.search(r"\+ full_name: Ada", shown)
    assert re.search(r"- Ada name: Ada", shown)


def test_the_page_has_no_markup_of_an_entity_and_fetches_nothing() -> None:
    harmless, hostile = Tags(), Tags()
    harmless.feed(html_of(plan()))
    hostile.feed(html_of(plan(HOSTILE + '"><img src=x onerror=alert(1)>')))
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    assert not hostile.tags & {"script", "img", "a", "link", "iframe", "form"}
    assert not hostile.attributes & {"src", "href", "onerror"}
    assert "<script>alert(1)</script>" in hostile.text
    assert "default-src 'none'" in html_of(plan())


MARKDOWN = (
    "@everyone [x](https://evil.example) ![p](https://evil.example/p.png) www.evil.example "
    "<img src=x> `code` ``` fence | cell # head #123 org/repo#1 **b** ~~s~~ :smile:"
)


def test_a_comment_mentions_nobody_and_links_nowhere() -> None:
    shown = markdown_of(plan(MARKDOWN))
    outside = re.sub(r"^(`{4,})diff\n.*?^\1$", "", shown, flags=re.DOTALL | re.MULTILINE)
    assert "full_name" not in outside  # the diffs are in a fence longer than any in them
    assert not re.search(r"[@\[\]<>`!#~]", outside.replace("<!-- bulkup plan -->", "", 1)
                         .replace("### ", "", 1).replace("&#", ""))  # fmt: skip
    assert "https:" not in outside
    assert "www." not in outside
    inside = re.search(r"^(`{4,})diff\n(.*?)^\1$", shown, re.DOTALL | re.MULTILINE)
    assert inside is not None
    assert all(line[:2] in ("  ", "- ", "+ ") for line in inside[2].splitlines())


@pytest.mark.parametrize("form", FORMS)
def test_no_form_has_a_character_that_a_terminal_obeys(form: Any) -> None:
    shown = form(plan(HOSTILE))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800]", shown)


def test_a_comment_is_never_too_long() -> None:
    one = plan(".." * 400).kinds[0]
    event = one.examples[0]
    example = replace(event, changes=event.changes * 10)
    kinds = tuple(replace(one, kind=f"K{i}", examples=(example,) * 3) for i in range(50))
    shown = markdown_of(plan(".." * 90, kinds=kinds))
    assert len(shown) <= MAX_CHARACTERS
    assert "left out here" in shown.replace("&#46;", ".")


def test_an_exact_plan_has_no_intervals() -> None:
    exact = Estimate.exact(3)
    predicted = replace(plan().predicted, handled=exact, written=exact, failed=Estimate.exact(0))
    shown = text_of(plan(drawn=Drawn.ALL, handled=3, predicted=predicted, failure_groups=()))
    assert "All 3 entities were handled." in shown
    assert "of 100 samples" not in shown
    assert "Of 3 entities, 3 written." in shown


def test_a_plan_of_one_or_of_failures_alone_reads_well() -> None:
    one, none = Estimate.exact(1), Estimate.exact(0)
    shown = replace(plan().predicted, handled=one, written=one, failed=none, deleted=none)
    text = text_of(plan(drawn=Drawn.ALL, handled=1, predicted=shown, failure_groups=()))
    assert "Of 1 entity, 1 written." in text
    assert "The 1 entity was handled." in text
    shown = replace(shown, written=none, failed=one)
    text = text_of(plan(drawn=Drawn.ALL, handled=1, predicted=shown))
    assert "Of 1 entity, none would change, and 1 would fail." in text


def test_files_of_plans_are_recognized() -> None:
    assert is_plan_page(html_of(plan()).encode()[:4096])
    assert not is_plan_page(b"<!DOCTYPE html><html>")
    assert is_plan_comment(markdown_of(plan()).encode())
    assert not is_plan_comment(b"# My notes\n")
