"""A run's summary as plain text: for files, mails, and a stdout that is not a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.report.namespace_grid import grid_lines
from bulkup.report.summary_model import Summary


def summary_text(summary: Summary) -> str:
    """The summary as plain text, unwrapped, ending in a newline."""
    width = max([len(name) for name, _ in summary.rows])
    lines = [summary.headline, *summary.sentences, ""]
    lines += [f"  {name:<{width}}  {value}" for name, value in summary.rows]
    if summary.grid is not None:
        lines += ["", *grid_lines(summary.grid)]
    if summary.failures or summary.failures_rest:
        lines += _section(summary.failures_title, _failure_lines(summary), summary.failures_rest)
    if summary.warnings:
        lines += _section("Warnings", _warning_lines(summary))
    if summary.log_lines or summary.log_rest:
        lines += _section("Log", summary.log_lines, summary.log_rest)
    if summary.next_command:
        lines += ["", f"{summary.next_label}: {summary.next_command}"]
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Sequence[str], rest: str | None = None) -> list[str]:
    shown = (*lines, rest) if rest else lines
    return ["", title, *(f"  {line}" for line in shown)]


def _warning_lines(summary: Summary) -> list[str]:
    lines = []
    for warning, *details in summary.warnings:
        lines += [warning, *(f"    {line}" for line in details)]
    return lines


def _failure_lines(summary: Summary) -> list[str]:
    lines = []
    for failure in summary.failures:
        lines.append(f"{failure.key}: {failure.what}")
        lines += [f"    {failure.keys}"] if failure.keys else []
        lines += [f"    {line}" for line in failure.traceback]
    return lines
