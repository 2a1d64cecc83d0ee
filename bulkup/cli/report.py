"""bulkup report"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.bundles import run_or_bundle
from bulkup.cli.options import Json, StateDir
from bulkup.cli.values import completed
from bulkup.core.visible import visible

if TYPE_CHECKING:
    from bulkup.core.run_facts import RunFacts


@dataclass(frozen=True)
class ReportArgs:
    run: Annotated[str | None, click.Argument(["run"], shell_complete=completed, required=False)]
    compare: Annotated[
        str | None,
        click.Option(
            ["--compare"],
            metavar="RUN",
            shell_complete=completed,
            help="Show RUN next to it, for comparison.",
        ),
    ]
    html: Annotated[
        bool, click.Option(["--html"], is_flag=True, help="Make the HTML page, with charts.")
    ]
    markdown: Annotated[
        bool,
        click.Option(["--markdown"], is_flag=True, help="Make Markdown, for an issue or a wiki."),
    ]
    out: Annotated[
        Path | None,
        click.Option(
            ["-o", "--out"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write to FILE. Its suffix (.html, .md, .json, .txt) sets the format, unless an "
            "option does.",
        ),
    ]
    state_dir: StateDir
    json: Json


@verb(
    "report",
    ReportArgs,
    examples=(
        ("bulkup report RUN -o report.html", "the page of a run, for others"),
        ("bulkup report RUN1 --compare RUN2", "two runs side by side"),
    ),
)
def command(args: ReportArgs) -> None:
    """Make the report of a run again: for the terminal, as an HTML page, Markdown or JSON.

    RUN is a run id, an unambiguous prefix of one, the id of a group of runs, one in each namespace,
    or a file of `bulkup bundle`. Without RUN: the run that was worked on last. The page is one
    file, which can be attached or published: it shows the run over time, where its time went,
    what failed, and samples of what it changed. Each run leaves it as report.html in its folder.

    Reads the run's folder only; writes nothing but FILE.
    """
    with run_or_bundle(args) as given:
        _report(given)


def _report(args: ReportArgs) -> None:
    from bulkup.core.output_file import check_replaceable, replace_file

    form = _form(args)
    out = None if args.out is None else args.out.absolute()
    if out is not None:
        check_replaceable(out, _IS_OURS[form], "a report of this form")
    facts = _facts(args.run, args.state_dir)
    other = None if args.compare is None else _facts(args.compare, args.state_dir)
    if out is not None:
        replace_file(out, _text(form, facts, other))
    elif form == "json":
        from bulkup.report.json_lines import stdout_lines

        lines = stdout_lines()
        lines.run_id = facts.report.run_id
        lines.write(*_line(facts, other), at=facts.read_at)
    elif form == "text":
        _print(facts, other)
    else:
        click.echo(_text(form, facts, other), nl=False)


def _form(args: ReportArgs) -> str:
    asked = [name for name in ("html", "markdown", "json") if getattr(args, name)]
    if len(asked) > 1:
        raise click.UsageError(f"--{asked[0]} and --{asked[1]} cannot be used together")
    if asked:
        return asked[0]
    if args.out is None or args.out.name == "-":
        return "text"
    suffix = args.out.suffix.lower()
    if suffix not in _SUFFIXES:
        raise click.UsageError(
            f"the format of a file whose name ends with {visible(suffix)} is not known; end it "
            "with .html, .md, .json or .txt, or add --html, --markdown or --json"
        )
    return _SUFFIXES[suffix]


_SUFFIXES = {
    "": "text", ".txt": "text",
    ".html": "html", ".htm": "html", ".md": "markdown", ".json": "json",
}  # fmt: skip


def _is_html(beginning: bytes) -> bool:
    from bulkup.report.page import is_report_page

    return is_report_page(beginning)


def _is_markdown(beginning: bytes) -> bool:
    from bulkup.report.page.markdown import is_report_markdown

    return is_report_markdown(beginning)


def _is_json(beginning: bytes) -> bool:
    return beginning.startswith((b'{"type": "report"', b'{"type": "comparison"'))


_RUN_ROW = re.compile(rb"^  Run +\d{8}-\d{6}-[0-9a-f]{6}\b", re.MULTILINE)

_IS_OURS: dict[str, Callable[[bytes], bool]] = {
    "html": _is_html,
    "markdown": _is_markdown,
    "json": _is_json,
    "text": lambda beginning: _RUN_ROW.search(beginning) is not None,
}


def _facts(name: str | None, state_dir: Path) -> RunFacts:
    from bulkup.core.records import group_of
    from bulkup.runs.run_facts import facts_of_end, run_facts
    from bulkup.state.files import find_latest, find_run, group_folders

    latest = find_latest(state_dir) if name is None else None
    group_id = group_of(latest.name) if latest is not None else name
    if group_id and (folders := group_folders(state_dir, group_id)):
        from bulkup.namespaces.stored import stored_group
        from bulkup.state.display import resume_command

        command = resume_command(group_id, state_dir)
        report = stored_group(group_id, folders, next_command=command)
        return facts_of_end(state_dir / group_id, report)
    return run_facts(latest or find_run(state_dir, name or ""))


def _line(facts: RunFacts, other: RunFacts | None) -> tuple[str, dict[str, object]]:
    from bulkup.report.page import comparison_fields, facts_fields

    if other is None:
        return "report", facts_fields(facts)
    return "comparison", comparison_fields(facts, other)


def _text(form: str, facts: RunFacts, other: RunFacts | None) -> str:
    if form == "html":
        from bulkup.report.page import render_comparison, render_page

        return render_page(facts) if other is None else render_comparison(facts, other)
    if form == "markdown":
        from bulkup.report.page.comparison import compare
        from bulkup.report.page.markdown import comparison_markdown, page_markdown
        from bulkup.report.page.model import run_page

        if other is None:
            return page_markdown(run_page(facts))
        return comparison_markdown(compare(facts, other))
    if form == "json":
        import io

        from bulkup.report.json_lines import JsonLines
        from bulkup.report.stream import Stream

        file = io.StringIO()
        lines = JsonLines(Stream(file), lambda: facts.read_at)
        lines.run_id = facts.report.run_id
        lines.write(*_line(facts, other))
        return file.getvalue()
    from bulkup.report.summary_model import summarize
    from bulkup.report.summary_text import summary_text

    rest = "".join(f"{line}\n" for line in _lines(facts, other))
    return rest if other is not None else summary_text(summarize(facts.report)) + rest


def _lines(facts: RunFacts, other: RunFacts | None) -> Iterator[str]:
    from bulkup.report.page.comparison import compare
    from bulkup.report.page.model import run_page
    from bulkup.report.page.text import comparison_lines, page_lines

    if other is None:
        yield from page_lines(run_page(facts))
    else:
        yield from comparison_lines(compare(facts, other))


def _print(facts: RunFacts, other: RunFacts | None) -> None:
    from bulkup.cli.tables import console
    from bulkup.report.summary_model import summarize
    from bulkup.report.summary_terminal import print_summary

    out = console()
    if not out.is_terminal:
        click.echo(_text("text", facts, other), nl=False)
        return
    if other is None:
        print_summary(out, summarize(facts.report))
    for line in _lines(facts, other):
        click.echo(line)
