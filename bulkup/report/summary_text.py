"""The end of a run as plain text: for files, mails, and a stdout that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bulkup.report.spaces import grid_lines
from bulkup.report.summary_model import Story


def summary_text(story: Story) -> str:
    """The story as plain text, unwrapped, ending in a newline."""
    return "\n".join(_lines(story)) + "\n"


def _lines(story: Story) -> Iterator[str]:
    yield story.headline
    yield from story.sentences
    yield ""
    width = max(len(name) for name, _ in story.rows)
    for name, value in story.rows:
        yield f"  {name:<{width}}  {value}"
    if story.grid is not None:
        yield from ("", *grid_lines(story.grid))
    if story.failures or story.failures_rest:
        yield from ("", "Failures")
        for failure in story.failures:
            yield f"  {failure.key}: {failure.what}"
            yield from (f"      {line}" for line in failure.traceback)
        if story.failures_rest:
            yield f"  {story.failures_rest}"
    if story.warnings:
        yield from ("", "Warnings")
        yield from (f"  {warning}" for warning in story.warnings)
    if story.log_lines or story.log_rest:
        yield from ("", "Log")
        yield from (f"  {line}" for line in story.log_lines)
        if story.log_rest:
            yield f"  {story.log_rest}"
    if story.next_command:
        yield from ("", f"{story.next_label}: {story.next_command}")
