"""The pages that `bulkup help TOPIC` has, too."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bulkup.cli.topics import TOPICS
from bulkup.core.errors import Exit
from docs.reference.text import Missing, cell, table

_TABLE = "exit-codes"


def exit_codes_page() -> str:
    title, text = TOPICS[_TABLE]
    rows, rest = _rows_and_rest(text)
    if missing := {str(int(code)) for code in Exit} - {code for code, _ in rows}:
        raise Missing(f"bulkup/cli/topics.py: {_TABLE} lacks {', '.join(sorted(missing))}")
    listed = table(("exit", "meaning"), ((code, cell(what)) for code, what in rows))
    return f"# {title}\n\n{listed}\n\n{rest}\n"


def _rows_and_rest(text: str) -> tuple[list[tuple[str, str]], str]:
    """The rows (a number, then text in a column), and the paragraph after them."""
    rows: list[tuple[str, str]] = []
    rest: list[str] = []
    for line in text.strip("\n").splitlines():
        if found := re.match(r" *(\d+)  (\S.*)", line):
            rows.append((found[1], found[2]))
        elif line.startswith(" ") and not rest:
            code, what = rows[-1]
            rows[-1] = code, f"{what} {line.strip()}"
        elif line or rest:
            rest.append(line)
    return rows, "\n".join(rest)


def topics_page() -> str:
    return "\n\n".join(_topics()) + "\n"


def _topics() -> Iterator[str]:
    yield "# Help topics"
    yield "What `bulkup help TOPIC` says. `exit-codes` is [a page of its own](exit-codes.md)."
    for name, (title, text) in TOPICS.items():
        if name != _TABLE:
            yield f"## {title}"
            yield f"`bulkup help {name}`:"
            yield "```text\n" + text.strip("\n") + "\n```"
