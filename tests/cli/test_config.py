"""The configuration file: what it sets, what wins over it, and what is refused in it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bulkup.cli.config_file import find_config
from bulkup.core.errors import UsageError
from tests.cli.shell import BUMP, Shell, contents, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(5)


@pytest.fixture
def home(nowhere: Shell) -> Shell:
    """A shell in a folder of a repository, above which no configuration counts."""
    (nowhere.folder / ".git").mkdir()
    return nowhere


@pytest.fixture
def here(tmp_path: Path, embedded: Server) -> Shell:
    """The same, with an embedded Datastore that holds five items."""
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    (tmp_path / ".git").mkdir()
    seed(embedded, 5)
    return shell


def in_force(shell: Shell, *args: str, **env: str) -> dict[str, dict[str, Any]]:
    result = shell.bulkup("config", *args, "--json", env=env)
    assert result.code == 0, result
    return {line["name"]: line for line in result.of_type("setting")}


def test_command_line_environment_file_default_in_this_order(home: Shell) -> None:
    home.write("pyproject.toml", "[tool.bulkup]\nbatch-size = 20\nmax_time = '5m'\n")
    found = in_force(home)
    assert (found["batch_size"]["value"], found["batch_size"]["source"]) == ("20", "file")
    assert found["batch_size"]["where"] == f"{home.folder}/pyproject.toml [tool.bulkup]"
    assert (found["shards"]["value"], found["shards"]["source"]) == ("auto", "default")
    found = in_force(home, BULKUP_BATCH_SIZE="30")
    assert (found["batch_size"]["value"], found["batch_size"]["where"]) == (30, "BULKUP_BATCH_SIZE")
    found = in_force(home, BULKUP_BATCH_SIZE="30", BULKUP_RUN_BATCH_SIZE="40")
    assert found["batch_size"]["where"] == "BULKUP_RUN_BATCH_SIZE"
    found = in_force(home, "--batch-size", "50", BULKUP_RUN_BATCH_SIZE="40")
    assert (found["batch_size"]["value"], found["batch_size"]["source"]) == (50, "command line")
    shown = home.bulkup("config", "migrate", "--target", "x")
    assert shown.code == 2
    assert "there is no target 'x'" in shown.err


def test_a_run_takes_its_defaults_from_the_nearest_file_above(
    here: Shell, embedded: Server
) -> None:
    here.write("bulkup.toml", 'limit = 2\nstate_dir = "state"\nquiet = true\n')
    here.write("deep/er/bump.py", BUMP)
    folder = here.folder
    here.folder = folder / "deep/er"
    stopped = here.bulkup("run", "bump.py")
    assert stopped.code == 75, stopped
    assert stopped.err == ""
    assert [path.name for path in (folder / "state").iterdir()], "relative to the file"
    assert not (here.folder / ".bulkup").exists()
    # What is printed as the next step names the folder where it is, seen from here.
    assert f"--state-dir {folder / 'state'}" in stopped.out
    assert here.bulkup("resume", "--limit", "3").code in (0, 75)
    assert sum(values(embedded.client()).values()) == 5


def test_a_named_target_decides_where_a_run_works(here: Shell, embedded: Server) -> None:
    here.write(
        "pyproject.toml",
        f"""
        [tool.bulkup]
        namespace = "nobody"
        [tool.bulkup.targets.inside]
        project = "{embedded.project}"
        namespace = "inside"
        [tool.bulkup.targets.outside]
        project = "{embedded.project}"
        """,
    )
    inside = seed(embedded, 3, namespace="inside")
    assert here.bulkup("run", "bump.py", "--target", "inside", "-q").code == 0
    assert sum(values(inside).values()) == 3
    assert sum(values(embedded.client()).values()) == 0
    here.bulkup("run", "bump.py", "-q", env={"BULKUP_TARGET": "outside", "BULKUP_NAMESPACE": ""})
    assert sum(values(embedded.client()).values()) == 5
    # A part of a target may be given beside it, but not another project.
    found = in_force(here, "--target", "inside", "--namespace", "other")
    assert found["namespace"]["value"] == "other"
    assert found["project"]["source"] == "target"
    result = here.bulkup("run", "bump.py", "--target", "inside", "--project", "x")
    assert result.code == 2
    assert "--target and --project cannot be used together" in result.err
    # What is typed wins, as a whole.
    found = in_force(here, "--project", "typed", BULKUP_TARGET="inside")
    assert (found["project"]["value"], found["target"]["value"]) == ("typed", None)
    found = in_force(here, "--target", "inside", BULKUP_PROJECT="other", BULKUP_LOCAL="file")
    assert (found["project"]["source"], found["local"]["value"]) == ("target", None)


def test_a_files_project_is_not_looked_for_in_a_local_file(home: Shell) -> None:
    home.write("bulkup.toml", 'project = "shop"\nnamespace = "tenant"\n')
    home.write("one.jsonl", '{"__key__": ["Item", 1], "n": 0}\n')
    assert home.bulkup("local", "load", "data.db", "one.jsonl").code == 0
    done = home.bulkup("run", "bump.py", "--local", "data.db", "--json")
    assert done.code == 0
    assert done.summary["counts"]["handled"] == 1


CONFIRM = """
    [targets.prod]
    project = "{project}"
    confirm = true
    [targets.copy]
    local = "copy.db"
    """


def test_a_target_with_confirm_needs_yes_where_nobody_can_answer(
    here: Shell, embedded: Server
) -> None:
    here.write("bulkup.toml", CONFIRM.format(project=embedded.project))
    before = contents(embedded)
    for args in (
        ("run", "bump.py", "--target", "prod"),
        ("run", "bump.py"),  # the same project, however it is named
        ("run", "bump.py", "--all-namespaces"),
        ("migrate", "ups"),
    ):
        here.write("ups/0001_bump.py", BUMP)
        here.bulkup(*args).fails(2, "target prod", "confirm with --yes")
    assert contents(embedded) == before
    assert here.bulkup("run", "bump.py", "--target", "prod", "-n").code == 0
    assert here.bulkup("run", "bump.py", "--limit", "2", "--yes").code == 75
    # To resume it is a run against that target, too.
    here.bulkup("resume").fails(2, "target prod", "confirm with --yes")
    assert here.bulkup("resume", env={"BULKUP_YES": "1"}).code == 0
    # A file that says both would confirm nothing.
    here.write("bulkup.toml", "yes = true\n" + CONFIRM.format(project=embedded.project))
    here.bulkup("run", "bump.py").fails(2, "confirm with --yes")


def test_a_target_with_confirm_asks_on_a_terminal(here: Shell, embedded: Server) -> None:
    here.write("bulkup.toml", CONFIRM.format(project=embedded.project))
    for answer, code, total in (("n\n", 130, 0), ("y\n", 0, 5)):
        terminal, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "bulkup", "run", "bump.py", "--target", "prod", "-q"],
            cwd=here.folder, env=here.environment, stdin=theirs, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True, text=True,
        ) as process:  # fmt: skip
            os.write(terminal, answer.encode())
            _, err = process.communicate(timeout=300)
        os.close(theirs)
        os.close(terminal)
        assert f"Run Bump on target prod, project {embedded.project}" in err
        assert process.returncode == code, err
        assert sum(values(embedded.client()).values()) == total


def test_the_migrations_folder_is_one_of_the_settings(here: Shell, embedded: Server) -> None:
    here.write("bulkup.toml", 'migrations = "db/ups"')
    here.write("db/ups/0001_bump.py", BUMP)
    (here.folder / "sub").mkdir()
    here.folder = here.folder / "sub"
    assert here.bulkup("migrate").code == 0
    assert here.bulkup("status", "--check").code == 0
    assert here.bulkup("mark", "0001_bump", "--pending").code == 0
    assert here.bulkup("status", "--check", env={"BULKUP_MIGRATIONS": "../db/ups"}).code == 4
    assert here.bulkup("status", "nowhere").code == 10


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("batchsize = 5", ["batchsize", "did you mean batch_size"]),
        ("max-fail = 5", ["max-fail", "did you mean max_failures"]),
        ("[targets.prod]\nprojct = 'x'", ["targets.prod.projct", "did you mean project"]),
        ("[target.prod]\nproject = 'x'", ["target is a table", "must be a string"]),
        ("targets = 'x'", ["targets is a string", "[targets.NAME]"]),
        ("[targets.prod]\nconfirm = true", ["targets.prod", "neither a project nor"]),
        ("[targets.prod]\nproject = 'x'\nconfirm = 'yes'", ["targets.prod.confirm", "true or"]),
        ("[targets.'a b']\nproject = 'x'", ["'a b'", "not a valid name"]),
        ("target = 'prod'\n[targets.prd]\nproject = 'x'", ["'prod'", "did you mean 'prd'"]),
        ("batch_size = '5'", ["batch_size is a string", "whole number"]),
        ("batch_size = true", ["batch_size is true", "whole number"]),
        ("batch_size = 501", ["batch_size", "501 is not in the range"]),
        ("batch_size = 5\nbatch-size = 5", ["batch_size is set twice"]),
        ("json = 'yes'", ["json is a string", "true or false"]),
        ("verbose = true", ["verbose is true", "whole number"]),
        ("max_time = 'soon'", ["max_time", "'soon' is not a duration"]),
        ("max_time = '2 weeks'", ["max_time", "did you mean 14d?"]),
        ("max_time = nan", ["max_time", "not a duration"]),
        ("max_time = 1979-05-27", ["max_time is a date or time"]),
        ("in_flight = 99", ["in_flight", "99"]),
        ("max_rate = -1", ["max_rate", "-1"]),
        ("project = ['x']", ["project is a list", "a string"]),
        ("project = ''", ["project is empty"]),
        ("state_dir = \"a\\u0000b\"", ["state_dir holds a NUL"]),
        ("email_to = [1]", ["email_to is a list", "list of strings"]),
        ("smtp_password = 'hunter2'", ["smtp_password", "secret", "BULKUP_SMTP_PASSWORD"]),
        ("api_key = 'hunter2'", ["api_key", "secret", "GOOGLE_APPLICATION_CREDENTIALS"]),
        ("[targets.prod]\npassword = 'hunter2'", ["targets.prod.password", "BULKUP_SMTP_PASSWORD"]),
        ("smtp = 'smtp://me:hunter2@host'", ["smtp holds a password", "BULKUP_SMTP_PASSWORD"]),
        ("param = ['a=b']", ["param", "command line"]),
        ("[tool.bulkup]\nlimit = 1", ["tool", "top level"]),
        ("migration_params = 1", ["migration_params", "a table"]),
        ("[migration_params.0001_a]\nx = [1]", ["migration_params.0001_a.x is a list"]),
        ("quiet = true\nverbose = 1", ["-q and -v"]),
        ("limit = ", ["not valid TOML", "at end"]),
        ("limit = 5 # \\xff", ["not valid TOML"]),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_file_and_key(
    home: Shell, toml: str, says: list[str]
) -> None:
    raw = toml.encode().replace(b"\\xff", b"\xff")
    (home.folder / "bulkup.toml").write_bytes(raw)
    result = home.bulkup("run", "bump.py")
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.count("Error: ") == 1
    for text in says if "-q" in says[0] else [str(home.folder / "bulkup.toml"), *says]:
        assert text in result.err, result.err
    assert "hunter2" not in result.err
    assert home.runs() == []
    # Help needs no configuration.
    assert home.bulkup("run", "--help").code == 0


def test_a_file_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in /tmp, where anybody may leave one for those who work below."""
    inside = tmp_path / "work"
    inside.mkdir()
    (tmp_path / "bulkup.toml").write_text("limit = 5")
    assert find_config(str(inside), {}) is not None
    real, mine = os.stat, os.getuid()

    class Stranger:
        st_uid = mine + 4711

    monkeypatch.setattr(
        Path, "lstat", lambda path: Stranger() if path.name == "bulkup.toml" else real(path)
    )
    with pytest.raises(UsageError, match=r"belongs to another user.*BULKUP_CONFIG"):
        find_config(str(inside), {})
    # Whoever names it has decided.
    assert find_config(str(inside), {"BULKUP_CONFIG": str(tmp_path / "bulkup.toml")}) is not None
    assert find_config(str(inside), {"BULKUP_CONFIG": "/dev/null"}).table == {}  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="is not a file"):
        find_config(str(inside), {"BULKUP_CONFIG": "missing.toml"})


def test_nothing_above_the_repository_or_home_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "repository" / "deep"
    inside.mkdir(parents=True)
    (tmp_path / "bulkup.toml").write_text("limit = 5")
    assert find_config(str(inside), {}) is not None
    (tmp_path / "repository/.git").write_text("gitdir: elsewhere")  # a worktree
    assert find_config(str(inside), {}) is None
    (tmp_path / "repository/.git").unlink()
    monkeypatch.setenv("HOME", str(inside))
    assert find_config(str(inside), {}) is None


def test_two_files_in_one_folder_are_refused_and_one_about_other_tools_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'bulkup-things'\n")
    (tmp_path / "bulkup.toml").write_text("limit = 5")
    found = find_config(str(tmp_path), {})
    assert found is not None
    assert found.path.name == "bulkup.toml"
    (tmp_path / "pyproject.toml").write_text("[tool.bulkup]\nlimit = 6\n")
    with pytest.raises(UsageError, match="both configure bulkup"):
        find_config(str(tmp_path), {})
    (tmp_path / "bulkup.toml").unlink()
    (tmp_path / "pyproject.toml").write_text("not TOML, and not about this tool")
    assert find_config(str(tmp_path), {}) is None


@pytest.mark.parametrize(
    ("name", "toml", "table"),
    [
        ("bulkup.toml", "target = 'dev'", "[targets.dev] in bulkup.toml"),
        (
            "pyproject.toml",
            "[tool.bulkup]\ntarget = 'dev'",
            "[tool.bulkup.targets.dev] in pyproject.toml",
        ),
    ],
)
def test_a_target_that_is_not_there_is_refused_where_one_is_needed(
    home: Shell, name: str, toml: str, table: str
) -> None:
    home.write(name, toml)
    (home.folder / "updaters").mkdir()
    for command in ("status", "list --all"):
        refused = home.bulkup(*command.split())
        assert refused.code == 2, refused
        assert f"define it as {table}" in refused.err
    for command in ("list", "prune --yes"):
        assert home.bulkup(*command.split()).code == 0, command


def test_a_wrong_value_names_the_variable_it_is_from(home: Shell) -> None:
    wrong = home.bulkup("run", "bump.py", env={"BULKUP_BATCH_SIZE": "foo"})
    assert wrong.code == 2
    said = "'--batch-size' from BULKUP_BATCH_SIZE: 'foo' is not a whole number from 1 to 500"
    assert said in " ".join(wrong.err.split())
    typed = home.bulkup("run", "bump.py", "--limit", "many", env={"BULKUP_BATCH_SIZE": "5"})
    assert "'--limit': 'many' is not a whole number of 1 or more" in typed.err


def test_a_misspelled_variable_is_named_with_what_it_may_mean(home: Shell) -> None:
    environment = {"BULKUP_RUN_MAXRATE": "5", "BULKUP_RESUME_MAX_RATE": "5", "BULKUP_MINE": "x"}
    run = home.bulkup("run", "-n", "bump.py", "--local", "x.db", env=environment)
    said = "BULKUP_RUN_MAXRATE is set, and nothing reads it; is it meant to be BULKUP_RUN_MAX_RATE?"
    assert run.err.count("nothing reads it") == 1
    assert said in run.err
    right = home.bulkup(
        "run", "-n", "bump.py", "--local", "x.db", env={"BULKUP_RUN_MAX_RATE": "500"}
    )
    assert "nothing reads" not in right.err
