"""docs/ci.md: its commands are valid, and its pull request example works."""

from __future__ import annotations

import json
import re
import shlex

import click
import pytest

from bulkup.cli import cli
from tests.cli.nursery import REPOSITORY
from tests.cli.shell import Shell
from tests.migrations.conftest import write_step

PAGE = (REPOSITORY / "docs/ci.md").read_text()
COMMANDS = [
    shlex.split(line.replace("- run: ", ""), comments=True)
    for line in map(str.strip, PAGE.splitlines())
    if re.match(r"(- run: )?bulkup (migrate|status|mark|unlock) ", line)
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_in_the_docs_is_valid(words: list[str]) -> None:
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None
    command.make_context(words[1], words[2:]).close()


def test_the_container_entry_point_is_a_valid_command() -> None:
    (line,) = re.findall(r"^ENTRYPOINT (.*)$", PAGE, re.MULTILINE)
    words = json.loads(line)
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None
    command.make_context(words[1], words[2:]).close()


def test_the_pull_request_example_works(nowhere_with_steps: Shell) -> None:
    shell = nowhere_with_steps
    (block,) = re.findall(r"sample data\n +run: \|\n((?: +bulkup .*\n)+)", PAGE)
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    assert [words[0] for words in commands] == ["local", "migrate", "status"]
    for words in commands:
        result = shell.bulkup(*words)
        assert result.code == 0, result
    dumped = shell.bulkup("local", "dump", "try.datastore", "--kind", "Item").out
    assert '"trail": "ab"' in dumped


@pytest.fixture
def nowhere_with_steps(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("pr"))
    for number, mark in enumerate("ab", 1):
        write_step(shell, f"{number:04d}_{mark}", mark)
    shell.write("sample.jsonl", '{"name": "one"}\n{"name": "two"}\n')
    return shell
