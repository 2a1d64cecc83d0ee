"""The blocks of code in the README and the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.S)
_FILE_NAME = re.compile(r"(?:#|<!--) ([\w./-]+\.\w+)(?: -->)?$")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    """Empty: none is given."""
    text: str
    not_run: str
    """Why no test runs it; the comment `<!-- not run: ... -->` before it says so."""

    @property
    def file_name(self) -> str:
        """What its first line calls it: `# full_name.py`; empty: nothing."""
        found = _FILE_NAME.match(self.text.partition("\n")[0])
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    return tuple(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    comments: list[str] = []
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            comments += _NOT_RUN.findall(token.content)
        elif token.type == "fence" and token.map:
            language = token.info.strip()
            reason = " ".join(" ".join(comments).split())
            yield Block(name_of(page), token.map[0] + 1, language, token.content, reason)
        if token.type != "html_block":
            comments = []


def blocks(language: str) -> list[Block]:
    """Those in a language, of all pages, that a test can run."""
    return [
        block
        for page in PAGES
        for block in blocks_of(page)
        if block.language == language and not block.not_run
    ]
