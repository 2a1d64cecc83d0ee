"""The end of a run as an HTML page for mail readers: inline styles, nothing fetched, no script."""

from __future__ import annotations

from bulkup.report.summary_model import Summary, Tone
from bulkup.report.templating import rendered

COLOURS = {Tone.GOOD: "#1a7f37", Tone.MIXED: "#9a6700", Tone.BAD: "#cf222e"}
"""Backgrounds of white text, each with a contrast of at least 4.5:1."""


def summary_html(summary: Summary) -> str:
    """The summary as a whole HTML document."""
    return rendered("mail.html.jinja", summary=summary, colour=COLOURS[summary.tone])
