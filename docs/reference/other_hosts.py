"""What a page of the site would fetch from another host: nothing; readers reach one host alone."""

from __future__ import annotations

import re

_ELSEWHERE = r"""["']?(?:https?:)?//"""
_FETCHED = re.compile(
    rf"""<(?:script|img|iframe|source)\b[^>]*\bsrc={_ELSEWHERE}[^>]*>"""
    rf"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload))[^>]*href={_ELSEWHERE}[^>]*>"""
    r"""|<[^>]*data-md-component=["']?source\b[^>]*>"""  # a script asks api.github.com for stars
    rf"""|url\({_ELSEWHERE}[^)]*\)|@import\s+{_ELSEWHERE}[^"']*"""
)


def fetched(text: str) -> str:
    """The first such place in HTML, CSS or SVG; empty: there is none."""
    found = _FETCHED.search(text)
    return found.group()[:200] if found else ""
