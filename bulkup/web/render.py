"""Templates. Values in them are inert: control characters become visible, HTML is escaped."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bulkup.core.visible import assignment
from bulkup.report.text import clean, clean_block, duration, iso, moment, per_second, plural, size


def render(template: str, **values: Any) -> str:
    """Render a template of this package."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bulkup.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "block": _block, "duration": duration, "moment": _moment, "per_second": per_second,
        "plural": plural, "size": size, "number": "{:,}".format,
    }  # fmt: skip
    environment.globals["assignment"] = assignment
    return environment


def _inert(value: Any) -> Any:
    """Called with every value that a template prints, before it is escaped."""
    return value if isinstance(value, Markup) else clean(str(value))


def _block(text: str) -> Markup:
    """The lines of `text`, cleaned and escaped, for `<pre>`."""
    return Markup("\n").join(map(escape, clean_block(text)))


def _moment(when: datetime) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(iso(when), moment(when))
