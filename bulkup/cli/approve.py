"""bulkup approve"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import TargetArgs, Yes
from bulkup.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bulkup.runs.plan_file import PlanFile
    from bulkup.state.approvals import Approval


@dataclass(frozen=True)
class ApproveArgs:
    plan: Annotated[Path, click.Argument(["plan"], metavar="PLAN", type=click.Path(path_type=Path))]
    target: TargetArgs
    yes: Yes


@verb(
    "approve",
    ApproveArgs,
    examples=(
        ("bulkup approve plan.jsonl", "after reading it"),
        ("bulkup approve plan.jsonl --yes", "in scripts, or if the plan expects failures"),
    ),
)
def command(args: ApproveArgs) -> int:
    """Approve PLAN, the file that `bulkup plan --out` has written.

    Records in the ledger of the plan's target who approves it, when, and the id of the plan, which
    is a checksum of the whole file. A target with `require_approval = true` in the configuration
    file runs nothing without an approved plan. An approval is for one run; approving another plan
    of the same work replaces it. The updater's code is not loaded.
    """
    from bulkup.migrations.connect import open_connection
    from bulkup.report.text import clean
    from bulkup.runs.approve import approve_plan, target_of
    from bulkup.runs.plan_check import approved_on
    from bulkup.runs.plan_file import read_plan

    file = read_plan(args.plan)
    with open_connection(target_of(file, args.target.options())) as (rpc, target):
        done = approve_plan(rpc, target, file, agreed=lambda there: _agreed(args, file, there))
    if done is None:
        click.echo("Nothing was changed.", err=True)
        return Exit.FAILED
    terms = done.approval.terms
    name = clean(f"Plan {terms.plan_id} of {done.approval.updater} on {target}")
    who = clean(f"{terms.approved_by} on {approved_on(terms)}")
    click.echo(
        f"{name} is approved by {who}."
        if done.is_new
        else f"{name} was approved before, by {who}; nothing to change."
    )
    return Exit.DONE


def _agreed(args: ApproveArgs, file: PlanFile, there: Approval | None) -> bool:
    """Ask for confirmation, and point out what a tired person would overlook. Raises UsageError if
    there is no terminal to ask on."""
    from bulkup.cli.confirm import confirm
    from bulkup.report.text import clean, plural
    from bulkup.runs.plan_check import approved_on

    plan, work = file.plan, file.plan.work
    if there is not None:
        terms = there.terms
        how = f"which {there.spent}" if there.spent else "which no run has carried out"
        replaced = f"{terms.plan_id}, approved by {terms.approved_by} on {approved_on(terms)}"
        click.echo(clean(f"This replaces the plan {replaced}, {how}."), err=True)
    failed = plan.predicted.failed
    if failed.high and (file.failures or failed.count):
        expected = plural(failed.count, "entity", "entities")
        range_ = "" if failed.is_exact else f" ({failed.low:,} to {failed.high:,})"
        question = clean(
            f"The plan of {work.updater} expects {expected}{range_} to fail. Approve it all the "
            "same?"
        )
        if args.yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError(f"not a terminal; confirm with --yes: {question}")
        return click.confirm(question, err=True)
    confirm(f"Approve the plan of {work.updater}", work.target, yes=args.yes)
    return True
