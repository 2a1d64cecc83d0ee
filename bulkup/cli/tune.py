"""bulkup tune"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, StateDir, TargetArgs
from bulkup.cli.steering import steer_and_print
from bulkup.cli.values import Rate, WholeNumber, WordOrNumber, completed
from bulkup.core.errors import UsageError
from bulkup.core.steering import MAX_BATCH_SIZE, MAX_IN_FLIGHT, Tuning, Verb
from bulkup.engine.throttle.max_rate import MaxRate

ADAPTS = 0
"""The value of `--in-flight auto`."""


class _AutoIsZero(WordOrNumber):
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        found: int | None = super().convert(value, param, ctx)
        return ADAPTS if found is None else found


@dataclass(frozen=True)
class TuneArgs:
    run: Annotated[str, click.Argument(["run"], shell_complete=completed)]
    max_rate: Annotated[
        MaxRate | None,
        click.Option(
            ["--max-rate"], type=Rate(), metavar="auto|N|off", help="Maximum entities per second."
        ),
    ]
    in_flight: Annotated[
        int | None,
        click.Option(
            ["--in-flight"],
            type=_AutoIsZero("auto", 1, MAX_IN_FLIGHT),
            metavar="auto|N",
            help="Maximum commits in flight per shard.",
        ),
    ]
    batch_size: Annotated[
        int | None,
        click.Option(
            ["--batch-size"],
            type=WholeNumber(1, MAX_BATCH_SIZE),
            metavar="N",
            help="Maximum entities per commit.",
        ),
    ]
    target: TargetArgs
    state_dir: StateDir
    json: Json


@verb(
    "tune",
    TuneArgs,
    examples=(
        ("bulkup tune RUN --max-rate 200", "while others need the capacity"),
        ("bulkup tune RUN --max-rate auto", "when they no longer do"),
    ),
)
def command(args: TuneArgs) -> int:
    """Change how fast RUN works, from its next batch on.

    Settings that are not given stay as they are. The new ones also apply to later processes of the
    run, and to the runs that the same command executes after this one. An option of `bulkup resume`
    replaces them.
    """
    tuning = Tuning(
        None if args.max_rate is None else str(args.max_rate), args.in_flight, args.batch_size
    )
    if not tuning:
        raise UsageError(
            "say what to change: --max-rate, --in-flight or --batch-size, such as "
            "`bulkup tune RUN --max-rate 200`"
        )
    return steer_and_print(
        args.run, Verb.TUNE, args.target, args.state_dir, json=args.json, tuning=tuning
    )
