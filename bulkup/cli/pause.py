"""bulkup pause"""

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
class PauseArgs:
    run: Annotated[str, click.Argument(["run"], shell_complete=completed)]
    target: TargetArgs
    state_dir: StateDir
    json: Json


@verb(
    "pause",
    PauseArgs,
    examples=(
        ("bulkup pause RUN", "until `bulkup continue RUN`"),
        ("bulkup pause RUN --project shop", "a run on another machine"),
    ),
)
def command(args: PauseArgs) -> int:
    """Pause RUN: its process finishes the commits in flight, then waits.

    The process keeps its lease on the run, so nobody else can take it over. If the process ends
    meanwhile, the run stays paused: `bulkup resume` waits, too, until `bulkup continue RUN`.

    RUN is the id of a run, of the first of a chain, or of a group of runs; an id in the state
    directory may be shortened. A run on another machine is asked through its run record,
    which takes a few seconds.
    """
    return steer_and_print(args.run, Verb.PAUSE, args.target, args.state_dir, json=args.json)
