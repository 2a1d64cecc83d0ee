"""Pages as strings: each is a single file that fetches nothing and runs no script."""

from __future__ import annotations

from bulkup.core.run_facts import RunFacts
from bulkup.report.page.comparison import compare
from bulkup.report.page.data import comparison_fields, embedded, facts_fields
from bulkup.report.page.model import run_page
from bulkup.report.templating import environment, is_page_of, rendered, rendered_page

GENERATOR = "bulkup report"


def render_page(facts: RunFacts) -> str:
    """The page of a run, as a complete file."""
    data = embedded(facts_fields(facts))
    return rendered_page("page.html.jinja", GENERATOR, page=run_page(facts), data=data)


def render_fragment(facts: RunFacts) -> str:
    """The content of the page's `<div id="run">`: everything that changes during the run."""
    return rendered("run.html.jinja", page=run_page(facts))


def render_sections(facts: RunFacts) -> dict[str, str]:
    """The same in parts: the content of each `<div id="section-NAME">`, by NAME; an empty string
    for a section without content."""
    template = environment().get_template("run.html.jinja")
    context = template.new_context({"page": run_page(facts)})
    return {name: "".join(block(context)).strip() for name, block in template.blocks.items()}


def render_comparison(a: RunFacts, b: RunFacts) -> str:
    """The page of two runs side by side, as a complete file."""
    data = embedded(comparison_fields(a, b))
    return rendered_page("comparison.html.jinja", GENERATOR, both=compare(a, b), data=data)


def is_report_page(beginning: bytes) -> bool:
    """Whether a file begins like a page made by this module."""
    return is_page_of(GENERATOR, beginning)
