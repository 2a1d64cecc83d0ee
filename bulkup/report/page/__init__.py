"""The page of a run: one HTML file with everything known about the run, and the same as data.

Made from `RunFacts` alone. Nothing here reads or writes a run's files.
"""

from __future__ import annotations

from bulkup.report.page.data import comparison_fields, facts_fields
from bulkup.report.page.render import (
    is_report_page,
    render_comparison,
    render_fragment,
    render_page,
    render_sections,
)
from bulkup.report.templating import environment, stylesheet

__all__ = [
    "comparison_fields",
    "environment",
    "facts_fields",
    "is_report_page",
    "render_comparison",
    "render_fragment",
    "render_page",
    "render_sections",
    "stylesheet",
]
