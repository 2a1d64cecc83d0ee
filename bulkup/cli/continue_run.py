"""bulkup continue"""

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
class ContinueArgs:
    run: Annotated[str, click.Argument(["run"], shell_complete=completed)]
    target: TargetArgs
    state_dir: StateDir
    json: Json


@verb(
    "continue",
    ContinueArgs,
    examples=(
        ("bulkup continue RUN", "after `bulkup pause RUN`"),
        ("bulkup continue RUN --project shop", "a run on another machine"),
    ),
)
def command(args: ContinueArgs) -> int:
    """Continue RUN after `bulkup pause`.

    Its waiting process works again. If that process has ended, `bulkup resume RUN` starts a new
    one.
    """
    return steer_and_print(args.run, Verb.CONTINUE, args.target, args.state_dir, json=args.json)
