"""What mkdocs calls when it builds the site: pages that are made then, and what none may have."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))  # `mkdocs` does not look where it is started

from docs.reference.measured import with_measurements
from docs.reference.pages import PAGES
from docs.reference.text import Missing

_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload))[^>]*href=["']?(?:https?:)?//[^>]*>"""
    r"""|<[^>]*data-md-component=["']?source\b[^>]*>"""
    r"""|url\(["']?(?:https?:)?//[^)]*\)|@import\s+["'](?:https?:)?//[^"']*"""
)
"""What a browser would fetch from another host, also through a script of the theme."""


def on_files(files: Files, config: Any) -> Files:
    try:
        for place, make in PAGES.items():
            files.append(File.generated(config, place, content=make()))
    except Missing as missing:
        raise PluginError(f"The reference is not complete: {missing}.") from missing
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    return with_measurements(markdown)


def on_post_build(config: Any) -> None:
    """Readers of the site reach its host and no other."""
    for file in sorted(Path(config.site_dir).rglob("*")):
        is_shown = file.suffix in (".html", ".css", ".svg")
        if is_shown and (found := _FETCHED.search(file.read_text(encoding="utf-8"))):
            raise PluginError(f"{file} fetches something from another host: {found.group()[:200]}")
