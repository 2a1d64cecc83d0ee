"""The options that say how fast to work, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.values import (
    Duration,
    HealthUrl,
    NumberOrShare,
    Rate,
    WholeNumber,
    WindowText,
    WordOrNumber,
)
from bulkup.core.plan_terms import MaxDrift
from bulkup.engine.throttle.max_rate import MaxRate

if TYPE_CHECKING:
    from bulkup.engine.options import Options

BatchSize = Annotated[
    int,
    click.Option(
        ["--batch-size"],
        type=WholeNumber(1, 500),
        default=500,
        show_default=True,
        metavar="N",
        help="Maximum entities per commit.",
    ),
]
Processes = Annotated[
    int,
    click.Option(
        ["--processes"],
        type=WholeNumber(1, 64),
        default=1,
        show_default=True,
        metavar="N",
        help="Processes that run the updater, for CPU-bound updaters. Attributes of self are "
        "per process.",
    ),
]
MaxFailures = Annotated[
    int | str | None,
    click.Option(
        ["--max-failures"],
        type=NumberOrShare(),
        metavar="N|N%",
        help="Stop when more than N entities, or N% of those handled, have failed; -1: no "
        "limit.  [default: the updater's]",
    ),
]


@dataclass(frozen=True)
class EngineArgs:
    """How fast to work, and when to stop."""

    batch_size: BatchSize
    in_flight: Annotated[
        int | None,
        click.Option(
            ["--in-flight"],
            type=WordOrNumber("auto", 1, 32),
            default="auto",
            show_default=True,
            metavar="auto|N",
            help="Maximum commits in flight per shard.",
        ),
    ]
    shards: Annotated[
        int | None,
        click.Option(
            ["--shards"],
            type=WordOrNumber("auto", 1, 64),
            default="auto",
            show_default=True,
            metavar="auto|N",
            help="Key ranges of the query to read in parallel.",
        ),
    ]
    processes: Processes
    max_rate: Annotated[
        MaxRate,
        click.Option(
            ["--max-rate"],
            type=Rate(),
            default="auto",
            show_default=True,
            metavar="auto|N|off",
            help="Maximum entities per second. auto: Datastore's ramp-up (500/s, then 50% more "
            "every 5 minutes) on a real project, no limit elsewhere.",
        ),
    ]
    max_failures: MaxFailures
    limit: Annotated[
        int | None,
        click.Option(
            ["--limit"], type=WholeNumber(min=1), metavar="N", help="Stop after N entities."
        ),
    ]
    max_time: Annotated[
        float | None,
        click.Option(
            ["--max-time"],
            type=Duration(),
            metavar="DURATION",
            help="Stop after DURATION (90s, 20m, 1h30m; a number alone is seconds).",
        ),
    ]
    retry_for: Annotated[
        float,
        click.Option(
            ["--retry-for"],
            type=Duration(),
            default="10m",
            show_default=True,
            metavar="DURATION",
            help="How long to retry while Datastore is unavailable (a number alone is seconds).",
        ),
    ]
    window: Annotated[
        str | None,
        click.Option(
            ["--window"],
            type=WindowText(),
            metavar="HH:MM-HH:MM",
            help="Work only in this part of the day, such as 22:00-06:00 or "
            "'22:00-06:00 Europe/Zurich', and wait otherwise.",
        ),
    ]
    health_url: Annotated[
        str | None,
        click.Option(
            ["--health-url"],
            type=HealthUrl(),
            metavar="URL",
            help="Work only while URL answers with 200 to 299 (asked every 10 seconds), and wait "
            "otherwise.",
        ),
    ]
    health_cmd: Annotated[
        str | None,
        click.Option(
            ["--health-cmd"],
            metavar="COMMAND",
            help="Work only while this shell command exits with 0, and wait otherwise.",
        ),
    ]
    max_hold: Annotated[
        float | None,
        click.Option(
            ["--max-hold"],
            type=Duration(),
            metavar="DURATION",
            help="Stop (exit 75) when a health check has failed for DURATION (30m; a number alone "
            "is seconds).  [default: wait]",
        ),
    ]
    no_undo: Annotated[
        bool,
        click.Option(
            ["--no-undo"],
            is_flag=True,
            help="Keep no before-images, so that `bulkup undo` cannot put back what changes.",
        ),
    ]
    conflict_retries: Annotated[
        int,
        click.Option(
            ["--conflict-retries"],
            type=WholeNumber(min=0),
            default=8,
            show_default=True,
            metavar="N",
            help="How many times to handle an entity again when others keep changing it.",
        ),
    ]

    def options(self, *, dry_run: bool = False, max_drift: MaxDrift | None = None) -> Options:
        from bulkup.engine.options import Options

        return Options(
            batch_size=self.batch_size,
            in_flight=self.in_flight,
            shards=self.shards,
            processes=self.processes,
            max_rate=self.max_rate,
            limit=self.limit,
            max_time_s=self.max_time,
            retry_for_s=self.retry_for,
            conflict_retries=self.conflict_retries,
            max_failures=self.max_failures,
            max_drift=max_drift or MaxDrift(),
            window=self.window,
            health_url=self.health_url,
            health_cmd=self.health_cmd,
            max_hold_s=self.max_hold,
            dry_run=dry_run,
            no_undo=self.no_undo,
        )


@dataclass(frozen=True)
class CopyEngineArgs:
    """The options that make sense on a throwaway copy."""

    batch_size: BatchSize
    processes: Processes
    max_failures: MaxFailures
