"""`--in-flight`, `--shards`, `--processes`, `--max-rate`: what is typed reaches the engine."""

from __future__ import annotations

import json

import click
import pytest

from bulkup.cli import cli
from bulkup.engine.options import Options
from bulkup.engine.throttle.max_rate import MaxRate
from tests.cli.shell import BUMP, Shell, seed, values
from tests.conftest import Server

WORKING = {"run": ("bump.py",), "resume": (), "migrate": ()}


def parsed(name: str, *args: str) -> Options:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    parsed_args = command.make_context(name, [*WORKING[name], *args]).params["args"]
    options = parsed_args.engine.options()
    assert isinstance(options, Options)
    return options


@pytest.mark.parametrize("name", WORKING)
def test_by_default_everything_adapts(name: str) -> None:
    options = parsed(name)
    assert (options.in_flight, options.shards, options.processes) == (None, None, 1)
    assert options.max_rate.is_auto


@pytest.mark.parametrize("name", WORKING)
def test_numbers_reach_the_engine(name: str) -> None:
    options = parsed(
        name, "--in-flight", "7", "--shards", "64", "--processes", "2", "--max-rate", "0.5"
    )
    assert (options.in_flight, options.shards, options.processes) == (7, 64, 2)
    assert options.max_rate == MaxRate(0.5)


def test_words_reach_the_engine_in_any_case() -> None:
    options = parsed("run", "--in-flight", "AUTO", "--shards", "Auto", "--max-rate", "Off")
    assert (options.in_flight, options.shards) == (None, None)
    assert options.max_rate.is_off


def test_a_resumed_run_keeps_its_speed_options() -> None:
    first = parsed("run", "--max-rate", "200", "--shards", "4", "--max-failures", "0")
    asked = json.loads(json.dumps(first.asked()))
    assert parsed("resume").or_as(asked) == first
    other = parsed("resume", "--max-rate", "off", "--processes", "2").or_as(asked)
    assert other.max_rate.is_off
    assert (other.shards, other.processes, other.max_failures) == (4, 2, 0)
    assert parsed("run").asked() == {}


def test_the_resume_command_repeats_the_options(lf_shell: Shell, lf: Server) -> None:
    seed(lf, 30)
    lf_shell.write("bump.py", BUMP)
    asked = ("--max-rate", "500", "--shards", "2")
    stopped = lf_shell.bulkup("run", "bump.py", "--limit", "10", *asked)
    assert stopped.code == 75, stopped
    (run,) = lf_shell.runs()
    assert f"bulkup resume {run} --shards 2 --max-rate 500" in stopped.out
    resumed = lf_shell.bulkup("resume", "--limit", "10")
    assert f"bulkup resume {run} --shards 2 --max-rate 500" in resumed.out
    assert lf_shell.bulkup("resume").code == 0
    assert values(lf.client()) == dict.fromkeys(range(1, 31), 1)
