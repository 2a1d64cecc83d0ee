"""`bulkup show` of a run that has not ended, and the command that it proposes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell, seed
from tests.conftest import Server

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]

DIES = """
    import os, signal
    import bulkup

    @bulkup.updater(kind="Item")
    def bump(entity):
        if entity.key.id == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        entity["n"] += 1
        return entity
"""


def test_a_killed_run_is_shown_as_killed_without_a_time(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", DIES)
    assert shell.bulkup("run", "bump.py", "--batch-size", "1").code == -9
    (row,) = shell.bulkup("list", "--json").lines
    assert row["state"] == "killed"
    out = shell.bulkup("show").out
    headline = out.partition("\n")[0]
    assert headline.startswith("Killed: ")
    assert headline.endswith(" 0 failed")  # and no time
    assert "Its process was killed; nothing is lost." in out
    assert "still running" not in out


def test_what_programs_read_of_a_killed_run_is_not_success(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", DIES)
    assert shell.bulkup("run", "bump.py", "--batch-size", "1", "--limit", "1").code == 75
    assert shell.bulkup("resume", "--limit", "9", "--batch-size", "1").code == -9
    summary = shell.bulkup("show", "--json").summary
    assert (summary["state"], summary["success"], summary["exit_code"]) == ("killed", False, None)
    assert "Exit code" not in shell.bulkup("show").out  # that of the process before
    asks = shell.bulkup("abandon", summary["run_id"])
    assert asks.code == 2
    handled = summary["counts"]["handled"]
    counted = "1 entity" if handled == 1 else f"{handled} entities"
    assert f"handles again the {counted} that it has handled" in asks.err


def test_show_proposes_the_command_of_the_runs_own_report(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", DIES.replace("os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"))
    options = ("--max-failures", "5", "--batch-size", "2", "--limit", "4")
    ran = shell.bulkup("run", "bump.py", *options, "--json")
    (step,) = ran.summary["next_steps"]
    assert step.endswith("--batch-size 2 --max-failures 5"), step
    assert shell.bulkup("show", "--json").summary["next_steps"] == [step]


def test_without_a_terminal_show_prints_what_run_prints(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.environment["COLUMNS"] = "60"
    shell.write("bump.py", DIES.replace("os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"))
    ran = shell.bulkup("run", "bump.py", "--batch-size", "1")
    assert ran.code == 1
    assert max(map(len, ran.out.splitlines())) > 100
    shown = shell.bulkup("show").out
    (wide,) = [line for line in ran.out.splitlines() if line.startswith("Fix the cause")]
    assert wide in shown.splitlines()
    assert not [line for line in shown.splitlines() if line != line.rstrip()]
