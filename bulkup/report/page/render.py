"""Pages as strings: each is one file, in which nothing is fetched and no script runs."""

from __future__ import annotations

from bulkup.core.run_facts import RunFacts
from bulkup.report.page.comparison import compare
from bulkup.report.page.data import comparison_fields, embedded, facts_fields
from bulkup.report.page.model import run_page
from bulkup.report.templating import environment, is_page_of, rendered, rendered_page

GENERATOR = "bulkup report"


def render_page(facts: RunFacts) -> str:
    """The page of a run, as a whole file."""
    data = embedded(facts_fields(facts))
    return rendered_page("page.html.jinja", GENERATOR, page=run_page(facts), data=data)


def render_fragment(facts: RunFacts) -> str:
    """What stands in `<div id="run">` of the page: all that changes while the run is at work."""
    return rendered("run.html.jinja", page=run_page(facts))


def render_sections(facts: RunFacts) -> dict[str, str]:
    """The same in parts: what stands in `<div id="section-NAME">`, by NAME. Of a section that has
    nothing to say, an empty string."""
    template = environment().get_template("run.html.jinja")
    context = template.new_context({"page": run_page(facts)})
    return {name: "".join(block(context)).strip() for name, block in template.blocks.items()}


def render_comparison(a: RunFacts, b: RunFacts) -> str:
    """The page of two runs side by side, as a whole file."""
    data = embedded(comparison_fields(a, b))
    return rendered_page("comparison.html.jinja", GENERATOR, both=compare(a, b), data=data)


def is_report_page(beginning: bytes) -> bool:
    """Whether a file begins like a page that this has made."""
    return is_page_of(GENERATOR, beginning)
