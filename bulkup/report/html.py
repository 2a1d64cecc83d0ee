"""The end of a run as an HTML page for mail readers: inline styles, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from bulkup.report.namespace_grid import Grid
from bulkup.report.summary_model import FailureLines, Summary, Tone

COLOURS = {Tone.GOOD: "#1a7f37", Tone.MIXED: "#9a6700", Tone.BAD: "#cf222e"}
"""Backgrounds of white text, each with a contrast of at least 4.5:1."""

_FONT = "font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
_MONO = "font-family:ui-monospace,Consolas,Menlo,monospace;font-size:13px"
_WRAP = "overflow-wrap:anywhere;word-break:break-word"
_BODY = f"margin:0;padding:16px;background:#ffffff;color:#1f2328;{_FONT};font-size:15px"
_CODE = f"{_MONO};background:#eff1f3;border-radius:4px;padding:1px 4px;{_WRAP}"
_PARAGRAPH = "margin:8px 0"
_NAME = "padding:3px 16px 3px 0;color:#59636e;vertical-align:top;white-space:nowrap"
_PRE = f"{_MONO};background:#f6f8fa;padding:8px;margin:4px 0 12px;white-space:pre-wrap;{_WRAP}"


def summary_html(summary: Summary) -> str:
    """The summary as a whole HTML document."""
    parts = [f'<p style="{_PARAGRAPH}">{escape(text)}</p>' for text in summary.sentences]
    if summary.next_command:
        parts.append(f'<p style="{_PARAGRAPH}">{escape(summary.next_label)}:</p>')
        parts.append(f'<pre style="{_PRE}">{escape(summary.next_command)}</pre>')
    parts += html_rows(summary.rows)
    if summary.grid is not None:
        parts += _grid(summary.grid)
    if summary.failures or summary.failures_rest:
        parts += html_section(
            summary.failures_title, map(_failure, summary.failures), summary.failures_rest
        )
    if summary.warnings:
        parts += html_section("Warnings", [_items(map(_warning, summary.warnings))], None)
    if summary.log_lines or summary.log_rest:
        parts += html_section("Log", [_list(summary.log_lines)], summary.log_rest)
    return html_page(summary.subject, summary.headline, summary.tone, parts)


def html_page(
    title: str, headline: str, tone: Tone, parts: Iterable[str], *, meta: str = ""
) -> str:
    """A whole HTML document. `parts` are HTML already, and so is `meta`, which is in its head."""
    page = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8">{meta}',
        '<meta name="viewport" content="width=device-width">',
        # Some readers recolour mails in dark mode until nothing contrasts; this page is light.
        '<meta name="color-scheme" content="light">',
        f'<title>{escape(title)}</title></head><body style="{_BODY}">',
        f'<div style="max-width:760px;margin:0 auto;{_WRAP}">',
        f'<h1 style="margin:0 0 12px;padding:12px 16px;background:{COLOURS[tone]};'
        f'color:#ffffff;border-radius:6px;font-size:18px">{escape(headline)}</h1>',
        *parts,
        "</div></body></html>",
    ]
    return "\n".join(page) + "\n"


def html_rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    """A table of names and values."""
    return [
        '<table role="presentation" style="border-collapse:collapse;margin:16px 0">',
        *(
            f'<tr><td style="{_NAME}">{escape(name)}</td>'
            f'<td style="padding:3px 0;{_WRAP}">{escape(value)}</td></tr>'
            for name, value in rows
        ),
        "</table>",
    ]


def html_table(rows: Iterable[Sequence[str]], numbers: Collection[int]) -> list[str]:
    """A table whose first row is its head. `numbers`: the columns that are aligned to the right."""
    lines = []
    for position, row in enumerate(rows):
        tag = "td" if position else "th"
        cells = "".join(
            f'<{tag} style="padding:3px 16px 3px 0;text-align:'
            f'{"right" if i in numbers else "left"}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return ['<table style="border-collapse:collapse;margin:0 0 16px">', *lines, "</table>"]


def html_section(title: str, parts: Iterable[str], rest: str | None = None) -> list[str]:
    """`parts` are HTML already."""
    section = [f'<h2 style="font-size:16px;margin:20px 0 8px">{escape(title)}</h2>', *parts]
    if rest:
        section.append(f'<p style="{_PARAGRAPH}">{escape(rest)}</p>')
    return section


def html_block(lines: Iterable[str]) -> str:
    """Lines in a font of fixed width."""
    return f'<pre style="{_PRE}">{escape(chr(10).join(lines))}</pre>'


def _grid(grid: Grid) -> list[str]:
    table = html_table((grid.head, *grid.rows), grid.numbers)
    return html_section("Namespaces", table, grid.rest)


def _failure(failure: FailureLines) -> str:
    html = (
        f'<p style="margin:8px 0 4px"><code style="{_CODE}">{escape(failure.key)}</code> '
        f"{escape(failure.what)}</p>"
    )
    if failure.keys:
        html += f'\n<p style="{_PARAGRAPH}"><code style="{_CODE}">{escape(failure.keys)}</code></p>'
    if failure.traceback:
        html += f'\n<pre style="{_PRE}">{escape(chr(10).join(failure.traceback))}</pre>'
    return html


def _warning(lines: Sequence[str]) -> str:
    warning, *details = lines
    more = f'\n<pre style="{_PRE}">{escape(chr(10).join(details))}</pre>' if details else ""
    return escape(warning) + more


def _list(lines: Sequence[str]) -> str:
    return _items(map(escape, lines))


def _items(parts: Iterable[str]) -> str:
    """`parts` are HTML already."""
    items = "\n".join(f"<li>{part}</li>" for part in parts)
    return f'<ul style="margin:0;padding-left:20px">\n{items}\n</ul>'
