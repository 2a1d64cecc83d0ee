"""The end of a run as an HTML page for mail readers: inline styles, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bulkup.report.spaces import Grid
from bulkup.report.summary_model import FailureLines, Story, Tone

COLOURS = {Tone.GOOD: "#1a7f37", Tone.MIXED: "#9a6700", Tone.BAD: "#cf222e"}
"""Each is readable (4.5:1 or better) under white text."""

_FONT = "font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,Consolas,Menlo,monospace;font-size:13px"
_WRAP = "overflow-wrap:anywhere;word-break:break-word"
_BODY = f"margin:0;padding:16px;background:#ffffff;color:#1f2328;{_FONT};font-size:15px"
_CODE = f"{_MONO};background:#eff1f3;border-radius:4px;padding:1px 4px;{_WRAP}"
_PRE = f"{_MONO};background:#f6f8fa;padding:8px;margin:4px 0 12px;white-space:pre-wrap;{_WRAP}"


def summary_html(story: Story) -> str:
    """The story as a whole HTML document."""
    return "\n".join(_parts(story)) + "\n"


def _parts(story: Story) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    # Some readers recolour mails in dark mode until nothing contrasts; this page is light.
    yield '<meta name="color-scheme" content="light">'
    yield f'<title>{escape(story.subject)}</title></head><body style="{_BODY}">'
    yield f'<div style="max-width:760px;margin:0 auto;{_WRAP}">'
    yield (
        f'<h1 style="margin:0 0 12px;padding:12px 16px;background:{COLOURS[story.tone]};'
        f'color:#ffffff;border-radius:6px;font-size:18px">{escape(story.headline)}</h1>'
    )
    yield from (f'<p style="margin:8px 0">{escape(text)}</p>' for text in story.sentences)
    if story.next_command:
        yield f'<p style="margin:8px 0">{escape(story.next_label)}:</p>'
        yield f'<pre style="{_PRE}">{escape(story.next_command)}</pre>'
    yield '<table role="presentation" style="border-collapse:collapse;margin:16px 0">'
    for name, value in story.rows:
        yield (
            '<tr><td style="padding:3px 16px 3px 0;color:#59636e;vertical-align:top;'
            f'white-space:nowrap">{escape(name)}</td>'
            f'<td style="padding:3px 0;{_WRAP}">{escape(value)}</td></tr>'
        )
    yield "</table>"
    if story.grid is not None:
        yield from _grid(story.grid)
    if story.failures or story.failures_rest:
        yield _heading("Failures")
        for failure in story.failures:
            yield from _failure(failure)
        yield from _rest(story.failures_rest)
    if story.warnings:
        yield _heading("Warnings")
        yield from _list(story.warnings)
    if story.log_lines or story.log_rest:
        yield _heading("Log")
        yield from _list(story.log_lines)
        yield from _rest(story.log_rest)
    yield "</div></body></html>"


def _grid(grid: Grid) -> Iterator[str]:
    yield _heading("Namespaces")
    yield '<table style="border-collapse:collapse;margin:0 0 16px">'
    for position, row in enumerate((grid.head, *grid.rows)):
        tag = "td" if position else "th"
        cells = "".join(
            f'<{tag} style="padding:3px 16px 3px 0;text-align:'
            f'{"right" if i in grid.numbers else "left"}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(row)
        )
        yield f"<tr>{cells}</tr>"
    yield "</table>"
    yield from _rest(grid.rest)


def _heading(text: str) -> str:
    return f'<h2 style="font-size:16px;margin:20px 0 8px">{escape(text)}</h2>'


def _failure(failure: FailureLines) -> Iterator[str]:
    yield (
        f'<p style="margin:8px 0 4px"><code style="{_CODE}">{escape(failure.key)}</code> '
        f"{escape(failure.what)}</p>"
    )
    if failure.traceback:
        yield f'<pre style="{_PRE}">{escape(chr(10).join(failure.traceback))}</pre>'


def _list(lines: tuple[str, ...]) -> Iterator[str]:
    yield '<ul style="margin:0;padding-left:20px">'
    yield from (f"<li>{escape(line)}</li>" for line in lines)
    yield "</ul>"


def _rest(text: str) -> Iterator[str]:
    if text:
        yield f'<p style="margin:8px 0">{escape(text)}</p>'
