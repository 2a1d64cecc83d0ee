"""A plan as one page: inline styles, nothing fetched, no script, so it can be attached anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bulkup.report.html import COLOURS
from bulkup.report.plan_summary import ChangeLine, KindLines, PlanSummary
from bulkup.report.summary_model import FailureLines

GENERATOR = '<meta name="generator" content="bulkup plan">'

_STYLE = """
body{margin:0;padding:16px;background:#fff;color:#1f2328;font:15px/1.45 -apple-system,'Segoe UI',
Helvetica,Arial,sans-serif}main{max-width:900px;margin:0 auto;overflow-wrap:anywhere}
h1{margin:0 0 12px;padding:12px 16px;color:#fff;border-radius:6px;font-size:18px}
h2{font-size:16px;margin:24px 0 8px}h3{font-size:14px;margin:16px 0 4px}p{margin:8px 0}
table{border-collapse:collapse}td{padding:3px 24px 3px 0;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}td.d,.d{color:#59636e}
pre{font:13px/1.4 ui-monospace,Consolas,Menlo,monospace;background:#f6f8fa;padding:8px;margin:4px 0
12px;white-space:pre-wrap;overflow-wrap:anywhere}
.del{background:#ffebe9;color:#82071e}.ins{background:#dafbe1;color:#0a5023}
ul{margin:0;padding-left:20px}
""".strip()


def plan_html(summary: PlanSummary) -> str:
    return "\n".join(_lines(summary)) + "\n"


def is_plan_page(beginning: bytes) -> bool:
    """Whether a file begins like a page that this has made."""
    return GENERATOR.encode() in beginning


def _lines(summary: PlanSummary) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"><head><meta charset="utf-8">{GENERATOR}'
    yield '<meta name="viewport" content="width=device-width">'
    yield '<meta name="color-scheme" content="light">'
    # Whatever an entity holds: nothing on this page is fetched or executed.
    yield (
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
    )
    yield f"<title>{escape(summary.title)}</title><style>{_STYLE}</style></head><body><main>"
    yield f'<h1 style="background:{COLOURS[summary.tone]}">{escape(summary.headline)}</h1>'
    yield from (f"<p>{escape(sentence)}</p>" for sentence in summary.sentences)
    yield from _table(summary.rows)
    if summary.warnings:
        yield "<h2>Warnings</h2><ul>"
        yield from (f"<li>{escape(warning)}</li>" for warning in summary.warnings)
        yield "</ul>"
    if summary.kinds:
        yield "<h2>Changes</h2>"
        for kind in summary.kinds:
            yield from _kind(kind)
        if summary.kinds_rest:
            yield f"<p>{escape(summary.kinds_rest)}</p>"
    if summary.failures or summary.failures_rest:
        yield "<h2>Failures</h2>"
        for failure in summary.failures:
            yield from _failure(failure)
        if summary.failures_rest:
            yield f"<p>{escape(summary.failures_rest)}</p>"
    if summary.bill:
        yield "<h2>Cost</h2>"
        yield from _table(summary.bill)
        yield f'<p class="d">{escape(summary.bill_note)}</p>'
    if summary.forecast:
        yield f"<h2>Duration</h2><p>{escape(summary.forecast)}</p>"
    yield "</main></body></html>"


def _table(rows: tuple[tuple[str, str, str], ...]) -> Iterator[str]:
    yield "<table>"
    for name, number, more in rows:
        yield (
            f'<tr><td>{escape(name)}</td><td class="n">{escape(number)}</td>'
            f'<td class="d">{escape(more)}</td></tr>'
        )
    yield "</table>"


def _kind(kind: KindLines) -> Iterator[str]:
    yield f'<h3>{escape(kind.title)}: <span class="d">{escape(kind.number)}</span></h3>'
    if kind.properties:
        yield f"<pre>{escape(chr(10).join(kind.properties))}</pre>"
    for example in kind.examples:
        changes = "".join(span for change in example.changes for span in _change(change))
        yield f"<pre>{escape(example.key)}{changes}</pre>"


def _change(change: ChangeLine) -> Iterator[str]:
    for sign, value, style in (("-", change.before, "del"), ("+", change.after, "ins")):
        if value is not None:
            line = escape(f"{sign} {change.name}: {value}")
            yield f'\n<span class="{style}">{line}</span>'


def _failure(failure: FailureLines) -> Iterator[str]:
    yield f"<p><b>{escape(failure.key)}</b>: {escape(failure.what)}</p>"
    lines = [failure.keys, *failure.traceback]
    yield f"<pre>{escape(chr(10).join(lines))}</pre>"
