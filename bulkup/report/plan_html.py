"""A plan as one page that fetches nothing and runs no script, so it can be attached anywhere."""

from __future__ import annotations

from bulkup.report.plan_summary import PlanSummary
from bulkup.report.templating import is_page_of, rendered_page

GENERATOR = "bulkup plan"


def plan_html(summary: PlanSummary) -> str:
    return rendered_page("plan.html.jinja", GENERATOR, plan=summary)


def is_plan_page(beginning: bytes) -> bool:
    """Whether a file begins like a page made by this module."""
    return is_page_of(GENERATOR, beginning)
