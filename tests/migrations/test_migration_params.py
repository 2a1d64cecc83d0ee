"""Parameters of migrations: typed, or in the configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import BUMP, Shell, seed, values
from tests.conftest import Server

NEEDS = BUMP.replace("step: int = param(1)", "step: int = param()")


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("updaters/0001_bump.py", NEEDS)
    shell.write("updaters/0002_bump.py", BUMP)
    (tmp_path / ".git").mkdir()
    seed(embedded, 4)
    return shell


def test_a_missing_parameter_of_a_migration_is_named_as_it_is_typed(
    shell: Shell, embedded: Server
) -> None:
    shell.bulkup("migrate", "-q").fails(2, "needs -p 0001_bump:step=... (")
    done = shell.bulkup("migrate", "-p", "0001:step=2", "-p", "0002_bump:step=40")
    assert done.code == 0, done
    assert set(values(embedded.client()).values()) == {42}


def test_no_migration_is_applied_while_a_later_one_lacks_its_parameter(
    shell: Shell, embedded: Server
) -> None:
    shell.write("updaters/0003_bump.py", NEEDS)
    stopped = shell.bulkup("migrate", "-p", "0001:step=2")
    stopped.fails(2, "needs -p 0003_bump:step=... (")
    assert set(values(embedded.client()).values()) == {0}
    every = shell.bulkup("migrate", "-p", "0001:step=2", "--all-namespaces", "--json")
    assert [line["type"] for line in every.lines] == ["namespaces", "error"]
    assert set(values(embedded.client()).values()) == {0}
    # What is not to be applied needs none.
    assert shell.bulkup("migrate", "-p", "0001:step=2", "--to", "0002").code == 0
    assert set(values(embedded.client()).values()) == {3}


def test_a_started_migration_keeps_its_parameters_and_needs_none_again(
    shell: Shell, embedded: Server
) -> None:
    assert shell.bulkup("migrate", "-p", "0001:step=2", "--limit", "2").code == 75
    assert shell.bulkup("migrate").code == 0
    assert set(values(embedded.client()).values()) == {3}


def test_the_configuration_file_has_parameters_of_migrations(
    shell: Shell, embedded: Server
) -> None:
    shell.write("bulkup.toml", "[migration_params.0001_bump]\nstep = 5\n")
    shell.write("bulkup.toml", "[migration_params.0003_gone]\nstep = 5\n")
    shell.bulkup("migrate").fails(10, "bulkup.toml", "0003_gone", "0001_bump, 0002_bump")
    shell.write("bulkup.toml", "[migration_params.0001_bump]\nstep = 5\n")
    stopped = shell.bulkup("migrate", "--limit", "2")
    assert stopped.code == 75
    # What is given again, in any form, must be what it was started with.
    shell.bulkup("migrate", "-q", "-p", "0001:step=6").fails(
        2, "started with step=5, not with step=6"
    )
    assert shell.bulkup("migrate", "-p", "0001:step=05").code == 0
    assert set(values(embedded.client()).values()) == {6}


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("step=2", 2, "-p NAME:PARAM=VALUE, such as -p 0001_bump:step=2"),
        ("step=a:b", 2, "does not say which migration"),
        ("0001_bmp:step=2", 10, "did you mean 0001_bump"),
        ("000:step=2", 2, "matches 2 migrations"),
        ("0001_bump:stp=2", 2, "did you mean 'step'"),
        ("0001_bump:step", 2, "has no value"),
    ],
)
def test_a_parameter_that_no_migration_takes_is_refused(
    shell: Shell, typed: str, code: int, says: str
) -> None:
    shell.bulkup("migrate", "-q", "-p", typed).fails(code, says)
