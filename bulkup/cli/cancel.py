"""bulkup cancel"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, StateDir, TargetArgs
from bulkup.cli.steering import steer_and_print
from bulkup.cli.values import completed
from bulkup.core.steering import Verb


@dataclass(frozen=True)
class CancelArgs:
    run: Annotated[str, click.Argument(["run"], shell_complete=completed)]
    target: TargetArgs
    state_dir: StateDir
    json: Json


@verb(
    "cancel",
    CancelArgs,
    examples=(
        ("bulkup cancel RUN", "its process ends; the run can be resumed"),
        ("bulkup cancel RUN --project shop", "a run on another machine"),
    ),
)
def command(args: CancelArgs) -> int:
    """Stop the process that works on RUN, wherever it is.

    The process finishes the commits in flight and saves, as after Ctrl-C, then exits with code 12.
    `bulkup resume RUN` continues the run; `bulkup abandon RUN` gives it up.
    """
    return steer_and_print(args.run, Verb.CANCEL, args.target, args.state_dir, json=args.json)
