"""Regions: the pieces of a page that change by themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Region:
    """A piece of HTML. By its version, a browser knows whether it has it already."""

    html: Markup
    version: str

    def as_json(self) -> dict[str, str]:
        return {"html": str(self.html), "version": self.version}


def region(html: str) -> Region:
    """`html` is safe already: it comes from a template."""
    digest = hashlib.sha256(html.encode(errors="replace")).hexdigest()[:16]
    return Region(Markup(html), digest)  # noqa: S704 - rendered with autoescape
