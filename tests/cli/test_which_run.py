"""Which run is meant where RUN is missing, or is the beginning of several ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import BUMP, Shell, seed, values
from tests.conftest import Server

FAILING = BUMP + "        if entity.key.id == 3: raise ValueError('three')\n"


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    return Shell(tmp_path, embedded)


def test_without_a_run_the_latest_that_fits_is_named(shell: Shell, embedded: Server) -> None:
    seed(embedded, 4)
    shell.write("bump.py", FAILING)
    assert shell.bulkup("run", "bump.py", "--max-failures", -1).code == 3
    assert shell.bulkup("run", "bump.py", "-p", "step=5").code == 1
    done, stopped = shell.runs()
    shell.bulkup("retry").fails(
        2, f"retry needs RUN, the id of a run; the latest one that has failures is {done} of Bump: "
        f"`bulkup retry {done}`"
    )  # fmt: skip
    shell.bulkup("abandon").fails(2, f"that is unfinished is {stopped}", f"abandon {stopped}`")
    assert shell.bulkup("abandon", stopped, "--yes").code == 0
    shell.bulkup("undo", "--state-dir", ".bulkup").fails(
        2, "the latest one that can be undone is ", f"`bulkup undo {stopped} --state-dir .bulkup`"
    )
    assert shell.bulkup("undo", stopped, "--yes").code == 0
    shell.bulkup("undo").fails(2, f"`bulkup undo {done}`")


@pytest.mark.parametrize("command", ["undo", "retry", "abandon", "unlock"])
def test_where_there_is_none_the_way_to_find_one_is_named(nowhere: Shell, command: str) -> None:
    nowhere.bulkup(command).fails(2, f"{command} needs RUN", "no run in '.bulkup'", "`bulkup list`")
    assert f"{command} [OPTIONS] RUN" in nowhere.bulkup(command, "--help").out


def test_of_two_runs_with_a_prefix_the_one_that_is_not_undone_is_meant(
    shell: Shell, embedded: Server
) -> None:
    client = seed(embedded, 4)
    shell.write("updaters/0001_bump.py", BUMP)
    assert shell.bulkup("migrate").code == 0
    assert shell.bulkup("undo", "0001").code == 0
    assert shell.bulkup("migrate").code == 0
    shell.bulkup("show", "0001").fails(2, "matches 2 runs")
    result = shell.bulkup("undo", "0001")
    assert result.code == 0, result
    assert values(client) == dict.fromkeys(range(1, 5), 0)


def test_resume_continues_the_one_that_is_unfinished(shell: Shell, embedded: Server) -> None:
    seed(embedded, 4)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("run", "bump.py").code == 0
    assert shell.bulkup("run", "bump.py", "-p", "step=5", "--limit", 1).code == 75
    result = shell.bulkup("resume", "2")
    assert result.code == 0, result
