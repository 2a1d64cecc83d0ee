"""A run's summary as an HTML page for mail clients: inline styles, nothing fetched, no script."""

from __future__ import annotations

from bulkup.report.summary_model import Summary, Tone
from bulkup.report.templating import rendered

COLOURS = {Tone.GOOD: "#1a7f37", Tone.MIXED: "#9a6700", Tone.BAD: "#cf222e"}
"""Backgrounds for white text, each with a contrast of at least 4.5:1."""


def summary_html(summary: Summary) -> str:
    """The summary as a complete HTML document."""
    return rendered("mail.html.jinja", summary=summary, colour=COLOURS[summary.tone])
