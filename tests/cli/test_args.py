"""Options of a command as one frozen dataclass."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated

import click
import pytest
from click.testing import CliRunner

from bulkup.cli.args import ArgsCommand, verb
from bulkup.cli.values import Duration
from bulkup.engine.throttle.max_rate import MaxRate


@dataclass(frozen=True)
class Where:
    project: Annotated[str | None, click.Option(["--project"])]
    port: Annotated[int, click.Option(["--port"], type=int, default=80)]


@dataclass(frozen=True)
class Everything:
    name: Annotated[str, click.Argument(["name"])]
    where: Where
    rate: Annotated[MaxRate, click.Option(["--rate"], type=MaxRate.parse, default="auto")]
    yes: Annotated[bool, click.Option(["--yes"], is_flag=True)]


def collecting(seen: list[Everything]) -> ArgsCommand:
    @verb("try", Everything)
    def command(args: Everything) -> None:
        """Try it."""
        seen.append(args)

    return command


def test_parsed_options_arrive_as_one_frozen_object_with_its_groups() -> None:
    seen: list[Everything] = []
    done = CliRunner().invoke(collecting(seen), ["x", "--yes", "--port", "8", "--rate", "7"])
    assert done.exit_code == 0, done.output
    assert seen == [Everything("x", Where(None, 8), MaxRate.parse("7"), True)]
    with pytest.raises(FrozenInstanceError):
        seen[0].name = "y"  # type: ignore[misc]


def test_help_has_the_docstring_and_the_options_in_the_order_of_the_fields() -> None:
    shown = CliRunner().invoke(collecting([]), ["--help"]).output
    assert "Try it." in shown
    places = [shown.index(f"--{name}") for name in ("project", "port", "rate", "yes")]
    assert places == sorted(places)


def test_incomplete_words_can_be_completed() -> None:
    """Shell completion parses lines that lack the argument."""
    context = collecting([]).make_context("try", ["--port", "8"], resilient_parsing=True)
    assert context.params["port"] == 8


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x", "write it like 30d or 12h"), ("30 days", "did you mean 30d?"),
        ("2w", "did you mean 14d?"), ("3 months", "did you mean 90d?"), ("5 min", "mean 5m?"),
        ("1y", "did you mean 365d?"), ("10sec", "did you mean 10s?"), ("5q", "write it like 30d"),
        ("-5", "write it like"), ("", "write it like"),
    ],
)  # fmt: skip
def test_a_duration_in_other_words_gets_ours(text: str, says: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(says)):
        Duration("30d or 12h").convert(text, None, None)
