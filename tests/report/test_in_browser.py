"""The pages that are files, in a browser: accessible in light and dark, and inert."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from bulkup.core.changes import PropertyChange
from bulkup.core.difference import (
    Change,
    DiffReport,
    EntityDifference,
    KindDiff,
    PropertyCount,
    SideInfo,
)
from bulkup.core.model import TargetInfo
from bulkup.report import summarize
from bulkup.report.diff_lines import diff_html
from bulkup.report.html import summary_html
from bulkup.report.page import render_comparison, render_page
from bulkup.report.plan_html import plan_html
from bulkup.report.plan_summary import summarize_plan
from bulkup.report.rehearsal_html import rehearsal_html
from bulkup.report.rehearsal_summary import summarize_rehearsal
from tests.browser import check_accessible, troubles
from tests.report.samples import HOSTILE, hostile_report, with_failures
from tests.report.test_plan_pages import plan
from tests.report.test_rehearsal_pages import rehearsal
from tests.report.timelines import facts, hostile_facts, with_breaks

if TYPE_CHECKING:
    from playwright.sync_api import Page

ATTACK = f'{HOSTILE}<script>alert(1)</script>"><img src=x onerror=alert(1)>'


def difference(text: str) -> str:
    report = DiffReport(
        SideInfo(TargetInfo("shop", namespace=text)),
        SideInfo(TargetInfo("shop")),
        (KindDiff(text, 4, 1, 0, 0, (PropertyCount(text, "string", "integer", 1),)),),
        datetime(2026, 1, 2, tzinfo=timezone.utc),
        2.0,
    )
    changed = EntityDifference(text, Change.CHANGED, (PropertyChange(text, text, text),))
    return diff_html(report, [changed])


PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: render_page(facts(samples=with_breaks(), report=with_failures(9, 9))),
    "hostile report": lambda: render_page(hostile_facts()),
    "comparison": lambda: render_comparison(facts(), facts()),
    "plan": lambda: plan_html(summarize_plan(plan())),
    "hostile plan": lambda: plan_html(summarize_plan(plan(ATTACK))),
    "rehearsal": lambda: rehearsal_html(summarize_rehearsal(rehearsal())),
    "hostile rehearsal": lambda: rehearsal_html(summarize_rehearsal(rehearsal(ATTACK))),
    "diff": lambda: difference("City"),
    "hostile diff": lambda: difference(ATTACK),
    "hostile mail": lambda: summary_html(summarize(hostile_report())),
}


def test_every_page_is_accessible_and_runs_nothing(browser_page: Page, tmp_path: Path) -> None:
    """One test for all: to start a browser takes a second."""
    found = troubles(browser_page)
    requests: list[str] = []
    browser_page.on("request", lambda request: requests.append(request.url))
    for name, make in PAGES.items():
        path = tmp_path / f"{name}.html"
        path.write_text(make(), encoding="utf-8")
        browser_page.goto(path.as_uri())
        assert browser_page.locator("h1").count() == 1, name
        check_accessible(browser_page, name)
        assert found == [], name
        assert requests == [path.as_uri()], name
        requests.clear()
