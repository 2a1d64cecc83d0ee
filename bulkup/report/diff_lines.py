"""The differences between two sides, for people: as terminal lines and as an HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from bulkup.core.difference import Change, DiffReport, EntityDifference
from bulkup.report.change_lines import property_line
from bulkup.report.summary_model import Tone
from bulkup.report.templating import is_page_of, rendered_page
from bulkup.report.text import clean, duration, moment, plural

MOST_LINES = 20
"""Properties shown per entity; --json has all of them."""
MOST_PROPERTIES = 30
"""Rows per kind in the table of properties; --json has all of them."""

GENERATOR = "bulkup diff"

ABSENT = "(absent)"
_NUMBERS = range(1, 5)

_STATES = {
    Change.CHANGED: ("differs", "yellow"),
    Change.ONLY_A: ("is only in A", "red"),
    Change.ONLY_B: ("is only in B", "green"),
}


def side_rows(report: DiffReport) -> list[tuple[str, str]]:
    return [("A", clean(str(report.a))), ("B", clean(str(report.b)))]


def headline(report: DiffReport) -> str:
    """`2,000 entities compared: 95 changed, 3 only in A, 2 only in B`."""
    totals = report.totals
    compared = plural(totals.same + totals.different, "entity", "entities")
    if not totals.different:
        return f"No differences: {compared} compared"
    return (
        f"{compared} compared: {totals.changed:,} changed, {totals.only_a:,} only in A, "
        f"{totals.only_b:,} only in B"
    )


def kind_rows(report: DiffReport) -> list[tuple[str, ...]]:
    """The table of kinds, header first."""
    rows: list[tuple[str, ...]] = [("Kind", "Same", "Changed", "Only in A", "Only in B")]
    for kind in report.kinds:
        numbers = (kind.same, kind.changed, kind.only_a, kind.only_b)
        rows.append((clean(kind.kind), *(f"{number:,}" for number in numbers)))
    return rows


def property_rows(report: DiffReport) -> list[tuple[str, ...]]:
    """The table of the properties that changed, header first; empty if none did."""
    rows = [
        (clean(kind.kind), clean(one.name), one.before, one.after, f"{one.count:,}")
        for kind in report.kinds
        for one in kind.properties[:MOST_PROPERTIES]
    ]
    return [("Kind", "Property", "In A", "In B", "Entities"), *rows] if rows else []


def left_out(report: DiffReport) -> str:
    """A line that says how many rows the table of properties leaves out; empty if none."""
    count = sum(max(0, len(kind.properties) - MOST_PROPERTIES) for kind in report.kinds)
    return f"and {plural(count, 'more row')}" if count else ""


def table_lines(rows: Sequence[Sequence[str]], numbers: Iterable[int]) -> list[str]:
    """The rows with aligned columns. `numbers`: the right-aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = set(numbers)
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def difference_lines(difference: EntityDifference) -> Iterator[Text]:
    """`Key('City', 5) differs`, and each property: A → B."""
    says, style = _STATES[difference.change]
    yield Text.assemble((clean(difference.key), "bold"), " ", (says, style))
    for change in difference.changes[:MOST_LINES]:
        yield property_line(change, ABSENT, ABSENT)
    rest = len(difference.changes) - MOST_LINES
    if rest > 0:
        yield Text(f"    … {plural(rest, 'more property', 'more properties')}")


def shown_of(report: DiffReport, shown: int) -> str:
    """A line that says how many differences are not shown; empty if all are."""
    rest = report.totals.different - shown
    return f"{rest:,} more not shown; show them with --sample N, or --sample all" if rest else ""


def report_lines(report: DiffReport) -> list[str]:
    """Everything except the individual differences, which are printed before."""
    lines = [f"{name}  {value}" for name, value in side_rows(report)]
    lines += ["", *table_lines(kind_rows(report), _NUMBERS)]
    if properties := property_rows(report):
        lines += ["", *table_lines(properties, (4,))]
        if rest := left_out(report):
            lines.append(rest)
    lines += ["", f"{headline(report)}, in {duration(report.elapsed_s)}"]
    return lines


def diff_html(report: DiffReport, differences: Sequence[EntityDifference]) -> str:
    """The report and the differences as an HTML document."""
    rows = [
        *side_rows(report),
        ("Started", moment(report.started)),
        ("Took", duration(report.elapsed_s)),
    ]
    blocks = ["\n".join(map(str, difference_lines(one))) for one in differences]
    tone = Tone.MIXED if report.totals.different else Tone.GOOD
    return rendered_page(
        "diff.html.jinja", GENERATOR,
        tone=tone.value, headline=headline(report), rows=rows, kinds=kind_rows(report),
        numbers=_NUMBERS, properties=property_rows(report), left_out=left_out(report),
        blocks=blocks, not_shown=shown_of(report, len(differences)),
    )  # fmt: skip


def is_diff_page(beginning: bytes) -> bool:
    """Whether a file begins like a page made by this module."""
    return is_page_of(GENERATOR, beginning)
