"""What works without a Datastore: help, version, and errors of usage."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from bulkup import __version__
from tests.cli.nursery import REPOSITORY
from tests.cli.shell import Shell

pytestmark = pytest.mark.sampled(5)

HEAVY = ("grpc", "google.cloud", "google.auth", "google.protobuf", "rich", "sqlite3")


@pytest.mark.parametrize(
    "args",
    [("--help",), ("--version",), ("help", "targets"), ("help", "migrate", "--help")]
    + [(command, "--help") for command in ("run", "resume", "list", "show", "params", "config")],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(nowhere: Shell, args: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bulkup", *args],
        cwd=nowhere.folder, env=nowhere.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    imported = [line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()]
    assert "bulkup.cli" in imported
    heavy = [m for m in imported if any(m == h or m.startswith(f"{h}.") for h in HEAVY)]
    assert heavy == []
    starts = {"--version": "bulkup ", "targets": "Which Datastore"}.get(args[-1], "Usage: bulkup")
    assert done.stdout.startswith(starts)


def test_version_and_help_of_the_whole(nowhere: Shell) -> None:
    assert nowhere.bulkup("--version").out == f"bulkup {__version__}\n"
    shown = nowhere.bulkup("-h").out
    for command in ("run", "resume", "list", "show", "params"):
        assert f"\n  {command} " in shown


def test_an_option_that_does_not_exist_is_wrong_usage(nowhere: Shell) -> None:
    result = nowhere.bulkup("run", "bump.py", "--batchsize", "5")
    assert result.code == 2
    assert result.out == ""
    assert "No such option" in result.err
    assert "--batch-size" in result.err  # what was meant
    assert nowhere.runs() == []


@pytest.mark.parametrize("args", [("rum", "bump.py"), ("run",), ("approve",)], ids=" ".join)
def test_a_command_that_is_not_one_is_wrong_usage(nowhere: Shell, args: tuple[str, ...]) -> None:
    result = nowhere.bulkup(*args)
    assert result.code == 2
    assert result.out == ""
    assert "Error: " in result.err
    assert "--help" in result.err or "-h" in result.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--batch-size", "0"), ("--batch-size", "501"), ("--batch-size", "many"),
        ("--in-flight", "0"), ("--in-flight", "33"), ("--in-flight", "few"), ("--limit", "0"),
        ("--shards", "0"), ("--shards", "65"), ("--shards", "off"), ("--processes", "0"),
        ("--processes", "65"), ("--processes", "auto"), ("--max-rate", "0"), ("--max-rate", "-3"),
        ("--max-rate", "fast"), ("--max-rate", "nan"), ("--max-rate", "inf"),
        ("--max-rate", "1e400"), ("--limit", "-5"), ("--max-failures", "-2"),
        ("--conflict-retries", "-1"), ("--max-time", "soon"), ("--max-time", ""),
        ("--max-time", "20 minutes"), ("--max-time", "-5s"), ("--max-time", "m"),
        ("--retry-for", "1.5h"), ("--max-time", "nan"), ("--max-time", "1e3"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_named_with_its_option(
    nowhere: Shell, option: str, value: str
) -> None:
    result = nowhere.bulkup("run", "bump.py", option, value)
    assert result.code == 2
    assert result.out == ""
    assert f"Invalid value for '{option}'" in result.err
    assert value in result.err
    assert "Traceback" not in result.err
    assert nowhere.runs() == []


def test_params_shows_what_an_updater_takes(nowhere: Shell) -> None:
    nowhere.write(
        "with_params.py",
        """
        from datetime import date
        from bulkup import BulkDelete, param

        class Old(BulkDelete):
            '''Delete what is old.'''

            before: date = param(help="delete what is older than this")
            keep: int = param(10)

            def get_query(self):
                return self.client.query(kind="Item")
        """,
    )
    shown = nowhere.bulkup("params", "with_params.py")
    assert shown.code == 0
    for text in ("Old: Delete what is old.", "before", "date", "must be given", "10",
                 "delete what is older than this"):  # fmt: skip
        assert text in shown.out
    assert shown.err == ""
    first, second = nowhere.bulkup("params", "with_params.py", "--json").lines
    assert (first["name"], first["value_type"], first["required"]) == ("before", "date", True)
    assert (second["name"], second["default"], second["required"]) == ("keep", "10", False)
    assert nowhere.bulkup("params", "bump.py:Nope").fails(10, "no Nope", "bump.py:Bump")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "bump.py", "-q", "-v"), "-q and -v cannot be used together"),
        (("run", "bump.py", "-qv"), "-q and -v cannot be used together"),
        (("resume", "--quiet", "--verbose"), "-q and -v cannot be used together"),
        (("migrate", "-v", "-q"), "-v"),
        (("run", "bump.py", "--target", "a", "--local", "f"), "--target and --local cannot"),
        (("run", "bump.py", "--all-namespaces", "--namespace", "a"), "--all-namespaces and"),
        (("status", "--namespaces", "a*", "--namespace", "a"), "--namespaces and --namespace"),
        (("migrate", "--to", "a", "--only", "b"), "--to and --only cannot"),
        (("run", "bump.py", "-n", "--new"), "-n and --new cannot"),
        (("run", "bump.py", "-n", "--no-record"), "-n and --no-record cannot"),
        (("run", "bump.py", "--wait", "5s", "--dry-run"), "-n and --wait cannot"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    nowhere: Shell, args: tuple[str, ...], says: str
) -> None:
    result = nowhere.bulkup(*args)
    assert result.code == 2, result
    assert result.out == ""
    assert says in result.err
    assert nowhere.runs() == []


def test_a_typed_option_wins_over_what_the_environment_contradicts(nowhere: Shell) -> None:
    nowhere.bulkup("run", "missing.py", "-v", env={"BULKUP_RUN_QUIET": "1"}).fails(10, "missing.py")
    result = nowhere.bulkup("run", "missing.py", env={"BULKUP_QUIET": "1", "BULKUP_VERBOSE": "1"})
    assert result.code == 2
    assert "-q and -v" in result.err
    # A dry run is never dropped for what is typed: it would become a real one.
    result = nowhere.bulkup("run", "bump.py", "--new", env={"BULKUP_RUN_DRY_RUN": "1"})
    assert result.code == 2
    assert "-n and --new" in result.err
    env = {"BULKUP_WAIT": "5s"}
    nowhere.bulkup("run", "missing.py", "-n", env=env).fails(10, "missing.py")


def test_a_default_that_nobody_sees_is_quoted(nowhere: Shell) -> None:
    nowhere.write(
        "join.py",
        """
        from bulkup import updater

        @updater(kind="Item")
        def join(entity, *, sep: str = " "):
            return None
        """,
    )
    shown = nowhere.bulkup("params", "join.py")
    assert shown.code == 0, shown
    assert "' '" in shown.out


def test_the_readme_and_the_help_agree_on_exit_codes(nowhere: Shell) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    table = re.findall(r"^\| (4|10) \| (.+) \|$", readme, re.MULTILINE)
    assert [code for code, _ in table] == ["4", "10"]
    told = " ".join(nowhere.bulkup("help", "exit-codes").out.split())
    for code, meaning in table:
        assert f"{code} {meaning}" in told


def test_every_duration_says_what_a_number_alone_is() -> None:
    from bulkup.cli import _COMMANDS, cli
    from bulkup.cli.values import Duration

    context = click.Context(cli)
    found = 0
    for name in _COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for param in command.params:
            if isinstance(param, click.Option) and isinstance(param.type, Duration):
                assert "a number alone is seconds" in str(param.help), (name, param.name)
                found += 1
    assert found > 5


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "x.py", "--bogus"), "No such option '--bogus'.\n"),
        (("run", "x.py", "--max-failure", "1"), "Did you mean '--max-failures'?"),
        (("run", "x.py", "--max-fail", "1"), "Did you mean '--max-failures'?"),
        (("run", "x.py", "--dryrun"), "Did you mean '--dry-run'?"),
        (("mark", "0001", "--json"), "No such option '--json'.\n"),
        (("local", "load", "--id-feild", "x"), "Did you mean '--id-field'?"),
        (("--versoin",), "Did you mean '--version'?"),
    ],
    ids=str,
)
def test_only_a_similar_option_is_proposed(
    nowhere: Shell, args: tuple[str, ...], says: str
) -> None:
    result = nowhere.bulkup(*args)
    assert result.code == 2
    assert says in result.err
    assert ("Did you mean" in result.err) == ("Did you mean" in says)


def test_a_setting_that_is_like_no_other_gets_no_proposal(nowhere: Shell) -> None:
    nowhere.write("bulkup.toml", "bogus = 1\n")
    nowhere.bulkup("list").fails(2, "there is no setting bogus; `bulkup config` lists them")
    nowhere.write("bulkup.toml", "max_failure = 1\n")
    nowhere.bulkup("list").fails(2, "did you mean max_failures?")
