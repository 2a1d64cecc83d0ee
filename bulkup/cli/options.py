"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bulkup.core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_PART_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """`90`, `90s`, `20m`, `1h30m` -> seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (int, float)):
            return float(value)
        match = _DURATION.fullmatch(value.strip().lower())
        if not match or not any(match.groups()):
            self.fail(f"{value!r} is not a duration; write it like 90s, 20m or 1h30m", param, ctx)
        parts = zip(match.groups(), _PART_S.values(), strict=True)
        return sum(float(number) * seconds for number, seconds in parts if number)


class Auto(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """`auto` -> None, or a number in a range."""

    name = "auto or number"

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        if text == "auto":
            return None
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        if not self._low <= number <= self._high:
            limits = f"from {self._low} to {self._high}"
            self.fail(f"{value!r} is neither auto nor a number {limits}", param, ctx)
        return number


class Rate(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """What `MaxRate.parse` takes."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from bulkup.engine.throttle.max_rate import MaxRate

        if isinstance(value, MaxRate):
            return value
        try:
            return MaxRate.parse(value)
        except UsageError as error:
            self.fail(error.message, param, ctx)


def _together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


state_dir = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path(".bulkup"),
    show_default=True,
    help="Folder where run state lives.",
)

json_lines = click.option("--json", is_flag=True, help="JSON, one object a line.")

verbosity = _together(
    click.option("-q", "--quiet", is_flag=True, help="Only the summary and errors."),
    click.option("-v", "--verbose", count=True, help="More; also tracebacks."),
)

target = _together(
    click.option("--project", help="Google Cloud project.  [default: as gcloud and its libraries]"),
    click.option("--database", help="Named database.  [default: the (default) one]"),
    click.option("--namespace", help="Namespace.  [default: the empty one]"),
)


local = click.option(
    "--local", type=click.Path(dir_okay=False), metavar="FILE",
    help="Use the embedded Datastore in FILE instead.",
)  # fmt: skip

migrations = click.argument(
    "folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("updaters")
)


class Assignment(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """`NAME=VALUE`; several in an environment variable stand on a line each."""

    name = "assignment"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line]


params = click.option(
    "-p",
    "--param",
    type=Assignment(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Updater parameter.",
)

yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")

working = _together(
    click.option(
        "--batch-size",
        type=click.IntRange(1, 500),
        default=500,
        show_default=True,
        help="Entities per commit, at most.",
    ),
    click.option(
        "--in-flight",
        type=Auto(1, 32),
        default="auto",
        show_default=True,
        metavar="auto|N",
        help="Commits under way at once.",
    ),
    click.option(
        "--shards",
        type=Auto(1, 64),
        default="auto",
        show_default=True,
        metavar="auto|N",
        help="Key ranges of the query that are read side by side.",
    ),
    click.option(
        "--processes",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        help="Processes that run the updater; for one whose own Python takes the time. What it "
        "keeps on self is of each process.",
    ),
    click.option(
        "--max-rate",
        type=Rate(),
        default="auto",
        show_default=True,
        metavar="auto|N|off",
        help="Entities a second, at most; auto: Datastore's ramp (500/s, half as much again every "
        "5 minutes) on a real project, no limit elsewhere.",
    ),
    click.option(
        "--max-failures",
        type=click.IntRange(min=-1),
        help="Entities that may fail before the run stops; -1: no limit.  [default: the updater's]",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Stop after so many entities."),
    click.option("--max-time", type=Duration(), help="Stop after so long: 90s, 20m, 1h30m."),
    click.option(
        "--retry-for",
        type=Duration(),
        default="10m",
        show_default=True,
        help="Patience with a Datastore that does not answer.",
    ),
    click.option(
        "--conflict-retries",
        type=click.IntRange(min=0),
        default=8,
        show_default=True,
        help="Times an entity that others keep changing is handled again.",
    ),
)

wait = click.option(
    "--wait",
    type=Duration(),
    default="0s",
    help="Wait so long for another runner that works on the run.  [default: exit 11 at once]",
)

mail = _together(
    click.option("--email-to", multiple=True, metavar="ADDRESS", help="Mail the report there."),
    click.option("--email-from", metavar="ADDRESS", help="Sender of that mail."),
    click.option(
        "--smtp",
        metavar="URL",
        help="smtp://user@host:587 (STARTTLS) or smtps://...; password: $BULKUP_SMTP_PASSWORD.",
    ),
    click.option("--smtp-plain", is_flag=True, help="Allow mail without encryption."),
)
