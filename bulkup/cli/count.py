"""bulkup count"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, Params, TargetArgs
from bulkup.cli.selecting import SelectionArgs, reading
from bulkup.cli.values import completed


@dataclass(frozen=True)
class CountArgs:
    updater: Annotated[
        str | None, click.Argument(["updater"], shell_complete=completed, required=False)
    ]
    selection: SelectionArgs
    param: Params
    target: TargetArgs
    json: Json


@verb(
    "count",
    CountArgs,
    examples=(
        ("bulkup count --kind Person --where \"country = 'CH'\"", "those of one country"),
        ("bulkup count full_name.py", "those that an updater's query matches"),
    ),
)
def command(args: CountArgs) -> None:
    """Print how many entities a selection matches.

    --kind, --ancestor and --where narrow the query of UPDATER, as in `bulkup run`; without UPDATER,
    they select from all entities. The server counts them if it can. Otherwise, and if a condition
    is a range of a property, their keys are read. Writes nothing.
    """
    from bulkup.report.json_lines import stdout_lines, stdout_text
    from bulkup.runs.find import count_matching, query_of

    text = stdout_text()
    with reading(args.updater, args.param, args.selection, args.target, json=args.json) as prepared:
        count = count_matching(prepared)
        if not args.json:
            text.line(str(count))
            return
        stdout_lines().write("count", {"query": query_of(prepared), "count": count})
