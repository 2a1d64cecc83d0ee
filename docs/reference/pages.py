"""The pages of the reference that are made at build, by their place in docs/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.reference import api, commands, json_lines, settings, topics, transforms
from docs.reference.text import Missing

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/exit-codes.md": topics.exit_codes_page,
    "reference/settings.md": settings.page,
    "reference/updaters.md": api.updater_page,
    "reference/programs.md": api.programs_page,
    "reference/transforms.md": transforms.page,
    "reference/events.md": api.events_page,
    "reference/topics.md": topics.topics_page,
}
JSON_PAGE = Path(__file__).parents[1] / "json.md"
COMMAND = "python -m docs.reference"
_BEGIN = f"<!-- Generated from bulkup/report/schema.json by `{COMMAND}`; do not edit. -->\n"
_END = "<!-- End of the generated part. -->\n"


def json_page() -> str:
    """docs/json.md with its generated part as it should be."""
    before, begin, rest = JSON_PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise Missing(f"{JSON_PAGE.name} has lost a comment around its generated part")
    return f"{before}{begin}\n{json_lines.json_lines()}\n\n{end}{after}"
