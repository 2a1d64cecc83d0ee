"""Help pages: of commands and of topics."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from bulkup.cli import cli
from bulkup.cli.help_page import SECTIONS
from bulkup.cli.topics import TOPICS
from bulkup.core.errors import Exit
from tests.cli.shell import Shell

ROOT = click.Context(cli, info_name="bulkup")


def leaves(group: click.Group, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what is typed."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            inside = click.Context(command, info_name=name, parent=ctx)
            for below, leaf in leaves(command, inside):
                yield f"{name} {below}", leaf
        else:
            yield name, command


COMMANDS = dict(leaves(cli, ROOT))


def page(*words: str) -> str:
    done = CliRunner().invoke(cli, [*words, "--help"], prog_name="bulkup")
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_are_valid_and_its_options_in_groups(name: str) -> None:
    shown = page(*name.split())
    examples: list[tuple[str, str]] = list(getattr(COMMANDS[name], "examples", ()))
    assert len(examples) == 2, name
    for line, says in examples:
        assert line in shown
        assert says
        command, *words = shlex.split(line.partition(" < ")[0].partition(" > ")[0])
        assert command == "bulkup"
        assert words[: len(name.split())] == name.split()
        # Valid but for what it names: a file is not there.
        words = [word for word in words[len(name.split()) :] if word != "-"]
        COMMANDS[name].make_parser(ROOT).parse_args(words)
    titles = re.findall(r"^(\S[^\n]*):$", shown, re.MULTILINE)
    assert titles[0] == "Examples"
    assert set(titles) <= {"Examples", "Options", *(title for title, _ in SECTIONS)}
    options = [o for o in COMMANDS[name].params if isinstance(o, click.Option)]
    for option in options:
        (one,) = {max(option.opts, key=len)}
        assert len(re.findall(rf"^  .*{one}\b(?!-)", shown.split("Examples:")[1], re.M)) >= 1, one


def test_what_is_used_most_comes_first() -> None:
    shown = page("run")
    places = [
        shown.index(f"\n  {text}")
        for text in ("-n, --dry-run", "-p, --param", "--target", "--batch-size", "--max-failures",
                     "--email-to", "--state-dir")
    ]  # fmt: skip
    places.append(shown.index("--help  "))
    assert places == sorted(places)


def test_the_page_of_the_whole_lists_each_command_once() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    for name in cli.list_commands(ROOT):
        assert len(re.findall(rf"^  {name} ", shown, re.MULTILINE)) == 1, name


def test_topics_are_listed_and_shown(nowhere: Shell) -> None:
    shown = nowhere.bulkup("help")
    assert shown.code == 0
    for name, (title, text) in TOPICS.items():
        assert f"\n  {name} " in shown.out
        assert nowhere.bulkup("help", name).out == f"{title}\n\n{text.strip(chr(10))}\n"
        assert all(len(line) <= 100 for line in text.splitlines()), name
    assert nowhere.bulkup("help", "exit", "codes").out == nowhere.bulkup("help", "exit-codes").out
    assert nowhere.bulkup("help", "local", "load").out == nowhere.bulkup("local", "load", "-h").out
    missing = nowhere.bulkup("help", "exitcodes")
    assert missing.code == 2
    assert "did you mean exit-codes?" in missing.err


def test_the_topic_has_every_exit_code_of_the_contract() -> None:
    listed = re.findall(r"^ *(\d+)  ", TOPICS["exit-codes"][1], re.MULTILINE)
    assert sorted(map(int, listed)) == sorted({int(code) for code in Exit})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rum", "`bulkup run`"),
        ("migrat", "`bulkup migrate`"),
        ("ls", "`bulkup list`"),
        ("dump", "`bulkup local dump`"),
        ("my job.py", "`bulkup run 'my job.py'`"),
        ("xyzzy", "`bulkup --help`"),
        (" ", "there is no command ' '"),
    ],
)
def test_an_unknown_verb_gets_a_suggestion(nowhere: Shell, typed: str, meant: str) -> None:
    result = nowhere.bulkup(typed)
    assert result.code == 2
    assert meant in result.err
    for command in re.findall(r"did you mean `(bulkup [^`]*)`", result.err):
        assert shlex.split(command)[1] in cli.list_commands(ROOT)
