"""Every command that bulkup prints as the next step works as it is printed.

Each situation below is made in a folder, with a target, a state directory and parameters whose
names a shell would take apart. Whatever command is then printed is typed into a shell.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from bulkup.cli.next_steps import complete
from bulkup.core.errors import UsageError
from tests.cli.shell import BUMP, Result, Shell

pytestmark = pytest.mark.sampled(9)

DATA, STATE = "my data.db", "my state"
HERE = ("--local", DATA)
KEPT = (*HERE, "--state-dir", STATE)
AWKWARD = BUMP.replace("step: int = param(1)", 'step: int = param(1)\n    sep: str = param("-")')
SEP = "sep=it's $HOME; `x`"
ADD = 'entity["n"] += self.step'
FAILS = AWKWARD.replace(ADD, f"{ADD} // (entity.key.id != 3)")

CLAUSE = r"""bulkup(?: (?:'[^']*'|"[^"]*"|[^\s`;,()'"])+?)+"""
PRINTED = re.compile(
    rf"`(bulkup [^`]+)`|\((bulkup [^()`]+)\)|[a-z]: ({CLAUSE})(?=[;,.]?(?:\s|$))", re.M
)
PLACEHOLDERS = {"bulkup run", "bulkup run UPDATER", "bulkup local load"}
"""What a sentence names without proposing to type exactly that."""


def printed(result: Result) -> list[str]:
    """The commands in what a command has printed, without those that are not whole."""
    found = ["".join(groups) for groups in PRINTED.findall(f"{result.out}\n{result.err}")]
    return [
        command
        for command in dict.fromkeys(found)
        if command not in PLACEHOLDERS and not re.search(r"\b(DIR|RUN|NAME)\b", command)
    ]


@dataclass(frozen=True)
class Situation:
    """What leads to a command being printed, and what must be true of what is printed."""

    commands: Sequence[Sequence[str] | Callable[[Path], object]]
    """The last one's output is looked at. What is no command is done to the folder."""
    starts: Sequence[str]
    """How the printed commands begin: each of them must be there."""
    before: Callable[[Path], object] = lambda _: None
    """What the user does before typing what was printed, such as to fix the updater."""
    codes: Sequence[int] = (0,)


def fix(folder: Path) -> None:
    (folder / "my fail.py").write_text(AWKWARD)
    (folder / "my ups/0001_fail.py").write_text(AWKWARD)


def change(folder: Path) -> None:
    (folder / "my good ups/0001_bump.py").write_text(AWKWARD.replace("+=", "-="))


def rename(folder: Path) -> None:
    (folder / "my good ups/0001_bump.py").rename(folder / "my good ups/0001_increment.py")


RUN = ("run", "my bump.py", *KEPT, "-p", SEP)
FAIL = ("run", "my fail.py", *KEPT, "--batch-size", "1")
MIGRATE = ("migrate", "my ups", *KEPT, "--yes")
GOOD = ("migrate", "my good ups", *KEPT)
SITUATIONS = {
    "a migration changed": Situation(
        [GOOD, change, GOOD], ["bulkup mark 0001_bump --pending --in 'my good ups' --local"]
    ),
    "a migration was renamed": Situation(
        [GOOD, rename, GOOD], ["bulkup mark 0001_bump --renamed-to 0001_increment"]
    ),
    "more failures than are shown": Situation(
        [["run", "my never.py", *KEPT, "--max-failures", "-1"]],
        ["bulkup show", "bulkup retry"],
        codes=(0, 3),
    ),
    "stopped at a limit": Situation([[*RUN, "--limit", "2"]], ["bulkup resume"]),
    "a handler failed": Situation([FAIL], ["bulkup resume"], before=fix),
    "shown later": Situation(
        [[*RUN, "--limit", "2"], ["show", "--state-dir", STATE]], ["bulkup resume"]
    ),
    "several namespaces": Situation(
        [[*RUN, "--all-namespaces", "--limit", "2", "--shards", "2"]],
        ["bulkup run 'my bump.py' -p"],
        codes=(0, 75),
    ),
    "a migration failed": Situation([MIGRATE], ["bulkup migrate 'my ups'"], before=fix),
    "a migration stopped": Situation(
        [["migrate", "my good ups", *KEPT, "--limit", "2", "-p", f"0001:{SEP}"]],
        ["bulkup migrate 'my good ups' -p"],
    ),
    "nothing to resume": Situation(
        [[*RUN], ["resume", "--state-dir", STATE, "2"]], ["bulkup show"]
    ),
    "no such run to abandon": Situation(
        [["abandon", "x", *KEPT]], ["bulkup list --all --local 'my data.db' --state-dir"]
    ),
    "no such run": Situation([["show", "x", "--state-dir", STATE]], ["bulkup list --state-dir"]),
    "a migration needs another": Situation(
        [["migrate", "my late ups", *KEPT, "--only", "0002_b"]],
        ["bulkup migrate --only 0001_a --in 'my late ups'"],
    ),
    "no such migration": Situation(
        [["mark", "0009_x", "--applied", "--in", "my ups", *HERE]], ["bulkup status --in 'my ups'"]
    ),
    "no file": Situation([["run", "my bump.py", "--local", "none.db"]], ["bulkup demo"]),
}


@pytest.fixture
def work(nowhere: Shell) -> Shell:
    folder = nowhere.folder / "it's my work"
    (folder / ".git").mkdir(parents=True)
    nowhere.folder = folder
    for name, source in (
        ("my bump.py", AWKWARD),
        ("my fail.py", FAILS),
        ("my never.py", AWKWARD.replace(ADD, "raise ValueError(entity.key.id)")),
        ("my ups/0001_fail.py", FAILS),
        ("my good ups/0001_bump.py", AWKWARD),
        ("my late ups/0001_a.py", AWKWARD),
        ("my late ups/0002_b.py", f'after = ["0001_a"]\n{AWKWARD}'),
    ):
        nowhere.write(name, source)
    nowhere.write("my orders.jsonl", '{"id": 1}\n')
    rows = [json.dumps({"__key__": ["Item", number], "n": 0}) for number in range(1, 9)]
    nowhere.write("rows.jsonl", "\n".join(rows) + "\n")
    assert nowhere.bulkup("local", "load", DATA, "rows.jsonl").code == 0
    return nowhere


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_printed_command_works_as_it_is_printed(work: Shell, name: str) -> None:
    situation = SITUATIONS[name]
    for command in situation.commands:
        if callable(command):
            command(work.folder)
        else:
            result = work.bulkup(*command)
    commands = printed(result)
    for start in situation.starts:
        assert [c for c in commands if c.startswith(start)], (start, commands, result)
    kept = work.folder.with_name("kept")
    shutil.copytree(work.folder, kept)
    for typed in commands:
        # They may be alternatives: each starts from where they were printed.
        shutil.rmtree(work.folder)
        shutil.copytree(kept, work.folder)
        situation.before(work.folder)
        again = work.bulkup(*shlex.split(typed)[1:])
        assert again.code in situation.codes, (typed, again)


def test_json_lists_the_same_commands(work: Shell) -> None:
    stopped = work.bulkup(*RUN, "--limit", "2", "--json")
    assert stopped.summary["next_steps"]
    for step in stopped.summary["next_steps"]:
        assert work.bulkup(*shlex.split(step)[1:]).code == 0
    missing = work.bulkup("resume", "x", "--state-dir", STATE, "--json")
    (error,) = missing.of_type("error")
    assert error["next_steps"] == ["bulkup list --state-dir 'my state'"]


def test_a_bash_reads_the_command_as_it_was_meant(work: Shell) -> None:
    """The other tests split the words as Python does."""
    import subprocess

    (typed,) = printed(work.bulkup(*RUN, "--all-namespaces", "--limit", "2"))
    program = f'bulkup() {{ {shlex.quote(sys.executable)} -m bulkup "$@"; }}; {typed} --yes'
    done = subprocess.run(
        ["bash", "-uc", program], cwd=work.folder, env=work.environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 75), done
    assert SEP in done.stdout


@pytest.mark.parametrize("where", ["two.py", "my two.py", "folder", "my folder", "folder/"])
def test_the_names_of_several_updaters_work(work: Shell, where: str) -> None:
    two = BUMP + BUMP.replace("Bump", "Jump")
    for path in ("two.py", "my two.py", "folder/two.py", "my folder/two.py"):
        work.write(path, two)
    for path in ("folder/one.py", "my folder/one.py", "folder/helper.py"):
        work.write(path, BUMP if "one" in path else "X = 1\n")
    result = work.bulkup("run", where, *HERE, "-n")
    result.fails(2)
    specs = shlex.split(result.err.partition(": ")[2].partition(": ")[2].replace(", ", " "))
    assert len(specs) == (3 if "folder" in where else 2), result.err
    for spec in specs:
        assert work.bulkup("run", spec, *HERE, "-n").code == 0, spec


def test_an_error_keeps_what_the_user_has_not_typed() -> None:
    error = UsageError(
        "look at `bulkup list`, or `bulkup run UPDATER` (bulkup mark 0001_x --pending); or type "
        "this: bulkup resume"
    )
    complete(error)
    assert "`bulkup list`, or `bulkup run UPDATER`" in error.message
    assert "(bulkup mark 0001_x --pending)" in error.message
    assert error.next_steps == ("bulkup list", "bulkup resume")  # harmless, all of them


BUG = dedent("""
    import sys
    import bulkup.runs.prepare

    def broken(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    bulkup.runs.prepare.{name} = broken
    from bulkup.cli import main
    main(sys.argv[1:] or {args!r})
""")


@pytest.mark.parametrize(
    ("args", "env", "shows"),
    [
        (["run", "my bump.py", *HERE], {}, False),
        (["run", "my bump.py", *HERE, "-v"], {}, True),
        (["run", "my bump.py", *HERE, "--verbose"], {}, True),
        (["run", "my bump.py", *HERE, "-nv"], {}, True),
        (["run", "my bump.py", *HERE], {"BULKUP_RUN_VERBOSE": "1"}, True),
    ],
)
def test_verbose_shows_what_v_shows(
    work: Shell, args: list[str], env: dict[str, str], shows: bool
) -> None:
    work.environment.update(env)
    result = work.script(BUG.format(name="prepare", args=args))
    assert result.code == 1, result
    assert "bug in bulkup" in result.err
    assert ("Traceback" in result.err) is shows


@pytest.mark.parametrize("verb", ["abandon", "unlock"])
def test_without_any_target_a_run_is_only_looked_for_here(nowhere: Shell, verb: str) -> None:
    nowhere.bulkup(verb, "nope", "--yes").fails(
        10, "there is no run", "'.bulkup'", "--project or --local"
    )
    nowhere.bulkup(verb, "nope", "--yes", "--project", "p").fails(1, "credentials")


def test_unlock_looks_where_the_run_that_was_started_here_is(nowhere: Shell) -> None:
    nowhere.write("rows.jsonl", '{"n": 0}\n{"n": 0}\n')
    assert nowhere.bulkup("local", "load", DATA, "rows.jsonl", "--kind", "Item").code == 0
    assert nowhere.bulkup("run", "bump.py", "--local", DATA, "--limit", "1").code == 75
    (run_id,) = nowhere.runs()
    nowhere.bulkup("unlock", run_id, "--yes").fails(10, "no process holds")
