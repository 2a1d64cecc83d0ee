"""HTML from templates: every value is escaped, and an undefined name is an error."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkup.core.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """The templates of all pages and mails. `bulkup serve` extends them."""
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


def compile_all() -> None:
    """Compile every template. This takes 60 ms once per process, and would otherwise happen when
    the first run ends."""
    for name in environment().list_templates(["jinja"]):
        environment().get_template(name)


def rendered(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values)


def rendered_page(template: str, generator: str, **values: Any) -> str:
    """A complete file that extends `base.html.jinja`. `generator`: says in its head what made
    it."""
    from markupsafe import Markup

    css = Markup(stylesheet())  # noqa: S704 (our own)
    return rendered(template, generator=generator, stylesheet=css, **values)


def stylesheet() -> str:
    """The style of all pages: for a page's head, or to be served."""
    return (TEMPLATES / "page.css").read_text(encoding="utf-8")


def is_page_of(generator: str, beginning: bytes) -> bool:
    """Whether a file begins like a page made by `generator`."""
    return f'<meta name="generator" content="{generator}">'.encode() in beginning
