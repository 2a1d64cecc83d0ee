"""Shell completion, asked by a real bash, and as zsh and fish ask."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bulkup.authoring.updater_names import updater_names
from bulkup.cli import cli
from bulkup.cli.completion import COMPLETERS
from bulkup.cli.values import completed
from tests.cli.shell import BUMP, Shell

pytestmark = pytest.mark.sampled(5)

TWO = BUMP + BUMP.replace("class Bump", "class Jump") + "class _Base(Updater): ...\n"
FUNCTION = "import bulkup\n\n@bulkup.updater(kind='Item')\ndef one(item): ...\n\ndef other(): ...\n"


@pytest.fixture
def home(nowhere: Shell) -> Shell:
    folder = nowhere.folder
    (folder / ".git").mkdir()
    nowhere.write("two.py", TWO)
    nowhere.write("helper.py", "raise SystemExit('this must not run')\n")
    nowhere.write("ups/one.py", FUNCTION)
    nowhere.write("updaters/0001_first.py", BUMP)
    nowhere.write("updaters/0002_second.py", BUMP)
    nowhere.write("bulkup.toml", "[targets.prod]\nproject = 'x'\n[targets.copy]\nlocal = 'db'\n")
    for state_dir, run in ((".bulkup", "20260101-000000-aaaaaa"), ("else", "20260202-000000-bbb")):
        (folder / state_dir / run).mkdir(parents=True)
        (folder / state_dir / run / "checkpoint.sqlite").touch()
    return nowhere


def in_bash(shell: Shell, *lines: tuple[str, ...]) -> list[list[str]]:
    """What a bash that has read the completion script offers for each line's last word."""
    bash = shutil.which("bash")
    assert bash is not None
    (shell.folder / "bin").mkdir(exist_ok=True)
    program = shell.folder / "bin/bulkup"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bulkup "$@"\n')
    program.chmod(0o755)
    script = ['eval "$(_BULKUP_COMPLETE=bash_source bulkup)"', "compopt() { :; }"]
    for line in lines:
        words = " ".join(map(shlex.quote, line))
        script += [
            f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; COMPREPLY=()",
            "_bulkup_completion bulkup",
            r"""printf '%s|' "${COMPREPLY[@]}"; echo""",
        ]
    done = subprocess.run(
        [bash, "--norc", "-c", "\n".join(script)],
        cwd=shell.folder, capture_output=True, text=True, timeout=300,
        env={**shell.environment, "PATH": f"{program.parent}:{shell.environment['PATH']}"},
    )  # fmt: skip
    assert done.stderr == ""
    return [sorted(word for word in row.split("|") if word) for row in done.stdout.splitlines()]


def test_bash_completes_verbs_updaters_runs_migrations_and_targets(home: Shell) -> None:
    offered = in_bash(
        home,
        ("bulkup", "mi"),
        ("bulkup", "run", "--dry"),
        ("bulkup", "run", ""),
        ("bulkup", "run", "re"),
        # Bash splits words at colons.
        ("bulkup", "run", "two.py", ":", "J"),
        ("bulkup", "run", "two.py", ":"),
        ("bulkup", "resume", "2026"),
        ("bulkup", "show", "--state-dir", "else", ""),
        ("bulkup", "migrate", "--to", "0002"),
        ("bulkup", "run", "bump.py", "--target", ""),
    )
    assert offered == [
        ["migrate"],
        ["--dry-run"],
        ["bin/", "bump.py", "else/", "two.py:Bump", "two.py:Jump", "updaters/", "ups/"],
        ["rename-property", "retype-property"],
        ["Jump"],
        ["Bump", "Jump"],
        ["20260101-000000-aaaaaa"],
        ["20260202-000000-bbb"],
        ["0002_second"],
        ["copy", "prod"],
    ]


@pytest.mark.parametrize("shell_name", ["zsh", "fish"])
def test_the_scripts_and_answers_for_other_shells(home: Shell, shell_name: str) -> None:
    """No such shell need be installed: this is what their scripts ask."""
    source = home.bulkup(env={"_BULKUP_COMPLETE": f"{shell_name}_source"})
    assert source.code == 0
    assert "_BULKUP_COMPLETE" in source.out
    asked = {"_BULKUP_COMPLETE": f"{shell_name}_complete"}
    if shell_name == "zsh":
        asked |= {"COMP_WORDS": "bulkup\nrun\ntwo.py:J", "COMP_CWORD": "2"}
    else:
        asked |= {"COMP_WORDS": "bulkup run two.py:J", "COMP_CWORD": "two.py:J"}
    answer = home.bulkup(env=asked)
    assert answer.err == ""
    assert "two.py:Jump" in answer.out
    assert "two.py:Bump" not in answer.out


def test_what_cannot_be_read_completes_to_nothing(home: Shell) -> None:
    home.write("bulkup.toml", "this is not TOML")
    home.write("broken.py", "def (")
    offered = in_bash(
        home,
        ("bulkup", "run", "--target", ""),
        ("bulkup", "run", "broken"),
        ("bulkup", "run", "missing/"),
        ("bulkup", "migrate", "nowhere", "--to", ""),
    )
    assert offered == [[], [], [], []]


def test_names_of_updaters_are_read_from_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(TWO + FUNCTION + "class Third(Bump): ...\nclass NotOne(dict): ...\n")
    assert updater_names(path) == ["Bump", "Jump", "one", "Third"]


def test_whatever_is_to_be_completed_has_a_completer() -> None:
    context = click.Context(cli)
    found = 0
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for param in command.params:
            if param._custom_shell_complete is completed:
                found += 1
                assert (name, param.name) in COMPLETERS or ("*", param.name) in COMPLETERS
    assert found > 10
