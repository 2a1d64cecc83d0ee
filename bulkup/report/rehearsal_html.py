"""A rehearsal as one page that fetches nothing and runs no script, so it can be attached
anywhere."""

from __future__ import annotations

from bulkup.report.rehearsal_summary import RehearsalSummary
from bulkup.report.templating import is_page_of, rendered_page

GENERATOR = "bulkup rehearse"


def rehearsal_html(summary: RehearsalSummary) -> str:
    return rendered_page("rehearsal.html.jinja", GENERATOR, rehearsal=summary)


def is_rehearsal_page(beginning: bytes) -> bool:
    """Whether a file begins like a page made by this module."""
    return is_page_of(GENERATOR, beginning)
