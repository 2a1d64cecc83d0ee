"""`--in-flight`, `--shards`, `--processes`, `--max-rate`: what is typed reaches the engine."""

from __future__ import annotations

import click
import pytest

from bulkup.cli import cli
from bulkup.cli.work import options_of
from bulkup.engine.options import Options
from bulkup.engine.pace import MaxRate

WORKING = {"run": ("bump.py",), "resume": (), "migrate": ()}


def parsed(name: str, *args: str) -> Options:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return options_of(command.make_context(name, [*WORKING[name], *args]).params)


@pytest.mark.parametrize("name", WORKING)
def test_left_alone_everything_adapts(name: str) -> None:
    options = parsed(name)
    assert (options.in_flight, options.shards, options.processes) == (None, None, 1)
    assert options.max_rate.is_auto


@pytest.mark.parametrize("name", WORKING)
def test_numbers_arrive(name: str) -> None:
    options = parsed(
        name, "--in-flight", "7", "--shards", "64", "--processes", "2", "--max-rate", "0.5"
    )
    assert (options.in_flight, options.shards, options.processes) == (7, 64, 2)
    assert options.max_rate == MaxRate(0.5)


def test_words_arrive_in_whatever_case() -> None:
    options = parsed("run", "--in-flight", "AUTO", "--shards", "Auto", "--max-rate", "Off")
    assert (options.in_flight, options.shards) == (None, None)
    assert options.max_rate.is_off
