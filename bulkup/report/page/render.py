"""Pages as strings: one self-contained file each, in which nothing is fetched and no script runs.

Templates escape whatever is put into them (`autoescape`), and a name that is not there is an error.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bulkup.core.run_facts import RunFacts
from bulkup.core.version import __version__
from bulkup.report.page.comparison import compare
from bulkup.report.page.data import comparison_fields, embedded, facts_fields
from bulkup.report.page.model import run_page

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
GENERATOR = "bulkup report"
"""Says in a page's head what has made it."""


@cache
def environment() -> Environment:
    """The templates of all pages. `bulkup serve` extends them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"version": __version__}
    made.globals["draw"] = made.get_template("macros.html.jinja").module
    return made


def stylesheet() -> str:
    """The style of all pages: for a page's head, or to be served."""
    return (TEMPLATES / "page.css").read_text(encoding="utf-8")


def render_page(facts: RunFacts) -> str:
    """The page of a run, as a whole file."""
    return _rendered("page.html.jinja", page=run_page(facts), data=embedded(facts_fields(facts)))


def render_fragment(facts: RunFacts) -> str:
    """What stands in `<div id="run">` of the page: all that changes while the run is at work."""
    return environment().get_template("run.html.jinja").render(page=run_page(facts))


def render_sections(facts: RunFacts) -> dict[str, str]:
    """The same in parts: what stands in `<div id="section-NAME">`, by NAME. Of a section that has
    nothing to say, an empty string."""
    template = environment().get_template("run.html.jinja")
    context = template.new_context({"page": run_page(facts)})
    return {name: "".join(block(context)).strip() for name, block in template.blocks.items()}


def render_comparison(a: RunFacts, b: RunFacts) -> str:
    """The page of two runs side by side, as a whole file."""
    return _rendered(
        "comparison.html.jinja", both=compare(a, b), data=embedded(comparison_fields(a, b))
    )


def is_report_page(beginning: bytes) -> bool:
    """Whether a file begins like a page that this has made."""
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in beginning


def _rendered(template: str, **values: object) -> str:
    from markupsafe import Markup

    return (
        environment()
        .get_template(template)
        .render(generator=GENERATOR, stylesheet=Markup(stylesheet()), **values)  # noqa: S704 (our own)
    )
