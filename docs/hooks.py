"""What mkdocs calls when it builds the site: pages that are made then, and what none may have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))  # `mkdocs` does not look where it is started

from docs.reference.measured import with_measurements
from docs.reference.other_hosts import fetched
from docs.reference.pages import PAGES
from docs.reference.text import Missing


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
    for file in sorted(Path(config.site_dir).rglob("*")):
        is_shown = file.suffix in (".html", ".css", ".svg")
        if is_shown and (found := fetched(file.read_text(encoding="utf-8"))):
            raise PluginError(f"{file} fetches something from another host: {found}")
