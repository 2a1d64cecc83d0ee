"""One change of a run or a dry run, property by property."""

from __future__ import annotations

from rich.text import Text

from bulkup.core.events import PropertyChange, WouldChange
from bulkup.report.text import VALUE_LIMIT, clean


def change_lines(event: WouldChange, *, is_done: bool = False) -> list[Text]:
    """`Key('City', 5) would be written`, then each property: before → after.

    `is_done`: says "was" instead of "would be".
    """
    deleted = event.action == "delete"
    verb = "was" if is_done else "would be"
    head = Text.assemble(
        (clean(event.key), "bold"),
        f" {verb} deleted" if deleted else f" {verb} written",
    )
    if not event.changes and not deleted:
        head.append(" (no property changes)")
    lines = [head]
    lines += [property_line(change, "(new)", "(removed)") for change in event.changes]
    return lines


def property_line(change: PropertyChange, new: str, removed: str) -> Text:
    """`    name: before → after`. `new`, `removed`: shown in place of a missing value."""
    line = Text(f"    {clean(change.name)}: ")
    line.append(*_side(change.before, new, "red"))
    line.append(" → ")
    line.append(*_side(change.after, removed, "green"))
    return line


def _side(value: str | None, absent: str, style: str) -> tuple[str, str]:
    return (absent, "dim") if value is None else (clean(value, VALUE_LIMIT), style)
