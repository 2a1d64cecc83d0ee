"""bulkup plan"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import AllowEmpty, OutputArgs, Params, TargetArgs
from bulkup.cli.prices import configured_prices
from bulkup.cli.selecting import SelectionArgs
from bulkup.cli.session import Session
from bulkup.cli.values import WholeNumber, completed
from bulkup.report.text import clean

if TYPE_CHECKING:
    from bulkup.core.plan import Plan


def _file(name: str, text: str) -> click.Option:
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.Option([name], type=kind, metavar="FILE", help=text)


@dataclass(frozen=True)
class PlanArgs:
    updater: Annotated[str, click.Argument(["updater"], shell_complete=completed)]
    sample: Annotated[
        int,
        click.Option(
            ["--sample"],
            type=WholeNumber(1, 100_000),
            default=1000,
            show_default=True,
            metavar="N",
            help="Handle N entities, drawn at random, and predict from these.",
        ),
    ]
    full: Annotated[
        bool,
        click.Option(["--full"], is_flag=True, help="Handle all entities, and predict exactly."),
    ]
    selection: SelectionArgs
    param: Params
    target: TargetArgs
    out: Annotated[
        Path | None, _file("--out", "Keep the plan in FILE, with every write that was seen.")
    ]
    html: Annotated[
        Path | None, _file("--html", "Write the plan as one HTML page, to attach or to publish.")
    ]
    markdown: Annotated[
        Path | None,
        _file("--markdown", "Write the plan as Markdown, for a comment on a pull request."),
    ]
    allow_empty: AllowEmpty
    output: OutputArgs


@verb(
    "plan",
    PlanArgs,
    examples=(
        ("bulkup plan full_name.py", "what would change, from 1,000 entities"),
        ("bulkup plan full_name.py --full --out plan.jsonl", "from all, and keep every change"),
    ),
)
def command(args: PlanArgs) -> int:
    """Predict what a run of UPDATER would do, cost and risk; write nothing.

    Handles a sample of the entities in memory, and shows how many a run would write, create and
    delete, examples of each kind of change, the cost at list prices, the minimum duration of a run,
    and warnings. Each number has an interval; in 95 of 100 samples all intervals are right at once.

    The handler is called as in a run, so any side effects outside Datastore (sending mail, say)
    happen here too, and for some entities twice.

    Exits with 3 if entities failed.
    """
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.core.output_file import check_replaceable
    from bulkup.engine.options import Options
    from bulkup.report.plan_html import is_plan_page
    from bulkup.report.plan_markdown import is_plan_comment
    from bulkup.runs.context import RunContext
    from bulkup.runs.plan import PlanRequest, make_plan
    from bulkup.runs.plan_file import is_plan
    from bulkup.runs.prepare import prepare

    request = PlanRequest(
        sample=None if args.full else args.sample,
        out=None if args.out is None else args.out.absolute(),
        prices=configured_prices(),
    )
    if request.out is not None:
        check_replaceable(request.out, is_plan, "a plan")
    html, markdown = (path and path.absolute() for path in (args.html, args.markdown))
    if html is not None:
        check_replaceable(html, is_plan_page, "the page of a plan")
    if markdown is not None:
        check_replaceable(markdown, is_plan_comment, "the Markdown of a plan")
    with Session(args.output) as session:
        context = RunContext(
            Options(dry_run=True),
            Path(".bulkup"),  # a plan reads nothing there, and writes nothing
            session.printer,
            allow_empty=args.allow_empty,
            owns_process=True,
        )
        params = parse_assignments(args.param)
        with prepare(
            args.updater, params, args.target.options(), context,
            selection=args.selection.selection(),
        ) as prepared:  # fmt: skip
            plan = make_plan(prepared, request)
        _write_pages(plan, html, markdown)
        if args.output.shows_progress:
            _say_where(args)
        return 3 if plan.predicted.failed.count else 0


def _write_pages(plan: Plan, html: Path | None, markdown: Path | None) -> None:
    from bulkup.core.output_file import replace_file
    from bulkup.report.plan_html import plan_html
    from bulkup.report.plan_markdown import plan_markdown
    from bulkup.report.plan_summary import summarize_plan

    summary = summarize_plan(plan)
    if html is not None:
        replace_file(html, plan_html(summary))
    if markdown is not None:
        replace_file(markdown, plan_markdown(summary))


def _say_where(args: PlanArgs) -> None:
    written = [
        clean(str(path)) for path in (args.out, args.html, args.markdown) if path is not None
    ]
    if written:
        click.echo(f"The plan is in {' and '.join(written)}.")
    if args.out is not None:
        command = ["bulkup", "run", args.updater, "--plan", str(args.out)]
        click.echo(f"To carry it out: {clean(shlex.join(command))}")
