"""The table of namespaces in a report."""

from __future__ import annotations

from dataclasses import replace

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, Report, RunState, SpaceResult
from bulkup.report.html import summary_html
from bulkup.report.namespace_grid import BRIEF_ROWS, MOST_ROWS, grid_lines, grid_of, namespace_names
from bulkup.report.summary_model import summarize
from bulkup.report.summary_text import summary_text
from tests.report.samples import failure, report

DONE = SpaceResult("tenant-1", "g@tenant-1", RunState.FINISHED, Counts(handled=1200, puts=1200))
FAILED = SpaceResult(
    "", "g@", RunState.FAILED, Counts(handled=7, puts=6, failed=1), Exit.FAILED, "too many failed"
)
LATER = SpaceResult("tenant-2", "", None)


def of(*spaces: SpaceResult, **changes: object) -> Report:
    return report(spaces=spaces, total=None, run_id="g", **changes)


def test_each_namespace_has_its_row_and_the_numbers_stand_below_each_other() -> None:
    grid = grid_of(of(FAILED, DONE, LATER), BRIEF_ROWS)
    assert grid is not None
    assert list(grid_lines(grid)) == [
        "  Namespace  State      Handled  Written  Failed",
        "  (default)  failed           7        6       1  too many failed",
        "  tenant-1   finished     1,200    1,200       0",
        "  tenant-2   not begun",
    ]


def test_a_report_on_one_namespace_has_no_table() -> None:
    assert summarize(report()).grid is None


def test_of_too_many_namespaces_finished_ones_are_left_out_and_counted() -> None:
    many = [replace(DONE, namespace=f"t{i}") for i in range(200)]
    grid = grid_of(of(*many, FAILED, LATER), BRIEF_ROWS)
    assert grid is not None
    assert len(grid.rows) == BRIEF_ROWS
    assert [row[0] for row in grid.rows[-2:]] == ["(default)", "tenant-2"]
    assert grid.rest == "152 namespaces more, finished"
    whole = grid_of(of(*many, FAILED, LATER), MOST_ROWS)
    assert whole is not None
    assert (len(whole.rows), whole.rest) == (202, None)


def test_unfinished_namespaces_are_never_left_out() -> None:
    grid = grid_of(of(*[replace(LATER, namespace=f"t{i}") for i in range(200)]), BRIEF_ROWS)
    assert grid is not None
    assert len(grid.rows) == 200


def test_text_and_html_have_the_same_cells() -> None:
    summary = summarize(of(FAILED, DONE, appeared=("tenant-3",)))
    text, page = summary_text(summary), summary_html(summary)
    assert "\n  tenant-1   finished    1,200    1,200       0\n" in text
    for cell in ("tenant-1", "finished", "1,200", "too many failed"):
        assert f">{cell}</td>" in page
    for shown in (text, page):
        assert "Namespaces that appeared during the run and were not processed: tenant-3" in shown


def test_the_rest_of_the_failures_is_in_the_runs_of_the_namespaces() -> None:
    summary = summarize(
        of(FAILED, counts=Counts(handled=9, failed=9), failures=(failure(1),), max_failures=-1)
    )
    assert (
        summary.failures_rest == "8 more failures: bulkup show RUN, with the run of the namespace."
    )


def test_a_long_list_of_names_is_cut_and_says_how_many_more() -> None:
    assert namespace_names(["", "b"]) == "(default), b"
    assert namespace_names([f"t{i}" for i in range(13)]).endswith("t8, t9 and 3 more")
