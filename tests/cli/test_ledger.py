"""`bulkup list`, `abandon` and `prune`, `show` and `resume` of groups: what is known of runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.shell import BUMP, Shell, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    """A run over 10 entities that stopped after 4."""
    seed(embedded, 10)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("run", "bump.py", "--limit", "4").code == 75
    return shell


def elsewhere(shell: Shell) -> tuple[str, str]:
    return ("--state-dir", str(shell.folder / "elsewhere"))


# --- list ---


def test_everything_fits_at_80_columns(shell: Shell, embedded: Server) -> None:
    (run,) = shell.runs()
    result = shell.bulkup("list", env={"COLUMNS": "80"})
    assert all(len(line) <= 80 for line in result.out.splitlines()), result.out
    text = " ".join(result.out.split())
    for part in (run, "stopped", "4 (40%)", "Bump on project", embedded.project, embedded.host):
        assert part in text, result.out
    assert run in shell.bulkup("list", env={"COLUMNS": "20"}).out  # ids are never cut


def test_the_state_is_that_in_datastore(shell: Shell, embedded: Server) -> None:
    (run,) = shell.runs()
    here = shell.state_dir
    here.rename(shell.folder / "copy")  # a machine that was left behind
    assert shell.bulkup("run", "bump.py").code == 0
    stale = ("--state-dir", str(shell.folder / "copy"))
    (row,) = shell.bulkup("list", "--json", *stale).lines
    assert (row["state"], row["handled"], row["is_here"]) == ("stopped", 4, True)
    (row,) = shell.bulkup("list", "--all", "--json", *stale).lines
    assert (row["run_id"], row["state"], row["handled"]) == (run, "finished", 10)
    assert row["is_here"]
    assert row["ended"]
    assert values(embedded.client()) == dict.fromkeys(range(1, 11), 1)


def test_runs_of_others_are_listed_with_all(shell: Shell) -> None:
    (run,) = shell.runs()
    assert "No runs" in shell.bulkup("list", *elsewhere(shell)).err
    result = shell.bulkup("list", "--all", *elsewhere(shell))
    assert run in result.out
    assert "not in this state directory" in result.out
    (row,) = shell.bulkup("list", "--all", "--json", *elsewhere(shell)).lines
    assert (row["state"], row["handled"], row["total"]) == ("stopped", 4, 10)
    assert (row["is_here"], "@" in row["who"]) == (False, True)


def test_a_copy_of_the_datastore_does_not_change_what_is_here(shell: Shell) -> None:
    other = {"GOOGLE_CLOUD_PROJECT": "another-project"}
    (row,) = shell.bulkup("list", "--all", "--json", env=other).lines
    assert row["state"] == "stopped"


def test_the_lock_of_migrations_is_not_a_run(shell: Shell, embedded: Server) -> None:
    shell.write("updaters/0001_bump.py", BUMP)
    assert shell.bulkup("migrate").code == 0
    rows = shell.bulkup("list", "--all", "--json").lines
    assert [row["updater"] for row in rows] == ["Bump", "Bump"]


def test_a_target_is_named_with_all_only(shell: Shell) -> None:
    result = shell.bulkup("list", "--project", "p")
    assert result.code == 2
    assert "--project goes with --all" in result.err
    assert shell.bulkup("list", env={"BULKUP_PROJECT": "p"}).code == 0  # meant for other commands


def test_what_a_record_holds_is_shown_inert(shell: Shell, embedded: Server) -> None:
    client = embedded.client()
    (record,) = client.query(kind="BulkupRun").fetch()
    record["record"] = record["record"].replace("Bump", "\\u001b]0;x\\u0007")
    client.put(record)
    result = shell.bulkup("list", "--all", *elsewhere(shell))
    assert "\x1b" not in result.out + result.err
    assert r"\x1b]0;x" in result.out


# --- abandon ---


def test_an_abandoned_run_is_over_and_the_next_one_is_new(shell: Shell, embedded: Server) -> None:
    (run,) = shell.runs()
    result = shell.bulkup("abandon", run)
    assert (result.code, result.out) == (2, "")
    assert "--yes" in result.err
    assert "the 4 entities" in result.err
    result = shell.bulkup("abandon", run[:12], "--yes")
    assert (result.code, result.out) == (0, f"{run} is abandoned.\n")
    assert [row["state"] for row in shell.bulkup("list", "--json").lines] == ["abandoned"]
    assert [row["state"] for row in shell.bulkup("list", "--json", "--all").lines] == ["abandoned"]
    shell.bulkup("resume", run).fails(10, "abandoned")
    shell.bulkup("abandon", run, "--yes").fails(10, "abandoned", "nothing to abandon")
    assert shell.bulkup("run", "bump.py").code == 0
    assert sorted(values(embedded.client()).values()) == [1] * 6 + [2] * 4


def test_a_run_that_only_datastore_knows_is_abandoned(shell: Shell) -> None:
    (run,) = shell.runs()
    shutil.rmtree(shell.state_dir)
    assert shell.bulkup("abandon", run, "--yes").code == 0
    assert [row["state"] for row in shell.bulkup("list", "--json", "--all").lines] == ["abandoned"]
    shell.bulkup("abandon", "nothing", "--yes").fails(10, "'nothing'", "list --all")


def test_a_run_that_is_at_work_is_not_abandoned(shell: Shell, embedded: Server) -> None:
    go = shell.folder / "go"
    waits = "import pathlib, time\n        print('at work', flush=True)\n"
    waits += f"        while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n        "
    shell.write("bump.py", BUMP.replace("entity[", waits + "entity["))
    (run,) = shell.runs()
    process = shell.begin("resume", run)
    assert process.stdout.readline() == "at work\n"
    shell.bulkup("abandon", run, "--yes").fails(11, run)
    shell.bulkup("abandon", run, "--yes", *elsewhere(shell)).fails(11, run)
    process.kill()
    process.communicate()
    assert shell.bulkup("abandon", run, "--yes").code == 0


# --- prune ---


def test_old_runs_are_deleted_after_asking_and_unfinished_ones_never(
    shell: Shell, embedded: Server
) -> None:
    (unfinished,) = shell.runs()
    shell.write("other.py", BUMP.replace("Bump", "Other"))
    assert shell.bulkup("run", "other.py").code == 0
    (finished,) = set(shell.runs()) - {unfinished}
    result = shell.bulkup("prune")
    assert (result.code, result.out) == (0, "")
    assert "Nothing to delete" in result.err
    assert "Kept: 1 unfinished run, 1 younger one." in result.err
    result = shell.bulkup("prune", "--older-than", "0s")
    assert result.code == 2
    assert "--yes" in result.err
    assert finished in result.out
    assert "kB" in result.out
    assert shell.runs() == sorted([unfinished, finished])
    result = shell.bulkup("prune", "--older-than", "0s", "--yes")
    assert result.code == 0, result
    assert shell.runs() == [unfinished]
    assert shell.bulkup("resume").code == 0
    assert values(embedded.client()) == dict.fromkeys(range(1, 11), 2)


def test_a_link_and_a_damaged_run_are_kept(shell: Shell, tmp_path: Path) -> None:
    (run,) = shell.runs()
    assert shell.bulkup("resume", run).code == 0
    folder = shell.state_dir / run
    precious = tmp_path / "precious"
    folder.rename(precious)
    folder.symlink_to(precious)
    result = shell.bulkup("prune", "--older-than", "0s", "--yes")
    assert result.code == 1
    assert "is a link" in result.err
    assert (precious / "checkpoint.sqlite").exists()
    damaged = shell.state_dir / "20260101-000000-abcdef"
    damaged.mkdir()
    (damaged / "checkpoint.sqlite").write_bytes(b"nothing")
    result = shell.bulkup("prune", "--older-than", "0s")
    assert f"1 damaged one ({damaged.name})" in result.err


def test_at_80_columns_a_name_of_15_letters_stays_in_one_piece(
    shell: Shell, embedded: Server
) -> None:
    shell.write("other.py", BUMP.replace("Bump", "AddFullNameToIt"))
    assert shell.bulkup("run", "other.py").code == 0
    shown = shell.bulkup("prune", "--older-than", "0s", env={"COLUMNS": "80"}).out
    (row,) = [line for line in shown.splitlines() if "finished" in line]
    assert "  AddFullNameToIt  finished  20" in row
    assert row.endswith("kB ")


def test_any_age_is_an_age(shell: Shell) -> None:
    assert shell.bulkup("prune", "--older-than", "999999999d").code == 0


# --- show ---


def test_show_takes_the_run_that_was_worked_on_last(shell: Shell) -> None:
    (first,) = shell.runs()
    shell.write("other.py", BUMP.replace("Bump", "Other"))
    assert shell.bulkup("run", "other.py").code == 0
    assert "Other" in shell.bulkup("show").out
    assert shell.bulkup("resume", first).code == 0
    assert shell.bulkup("show", "--json").summary["run_id"] == first
    shell.bulkup("show", *elsewhere(shell)).fails(10, "no runs")


# --- groups ---


@pytest.fixture
def tenants(tmp_path: Path, embedded: Server) -> Shell:
    """A group that stopped in the second of its three namespaces."""
    for name in ("a", "b", "c"):
        seed(embedded, 4, namespace=name)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("run", "bump.py", "--namespaces", "?", "--limit", "6").code == 75
    return shell


def group_id(shell: Shell) -> str:
    (found,) = {run.partition("@")[0] for run in shell.runs()}
    return found


def test_a_group_is_shown_and_resumed_by_its_id(tenants: Shell, embedded: Server) -> None:
    group = group_id(tenants)
    result = tenants.bulkup("show", group)
    assert result.code == 0, result
    text = " ".join(result.out.split())
    assert "a finished 4 4 0" in text
    assert "b stopped 2 2 0" in text
    assert f"bulkup resume {group}" in text
    assert tenants.bulkup("show").out == result.out
    result = tenants.bulkup("resume", group)
    assert result.code == 0, result
    for name in ("a", "b", "c"):
        assert values(embedded.client(namespace=name)) == dict.fromkeys(range(1, 5), 1)
    tenants.bulkup("resume", group).fails(10, group, "nothing to resume")
    (line,) = tenants.bulkup("show", group, "--json").of_type("group")
    assert line["counts"]["handled"] == 12


def test_a_group_is_abandoned_by_its_id(tenants: Shell, embedded: Server) -> None:
    group = group_id(tenants)
    assert tenants.bulkup("abandon", group).code == 2
    assert tenants.bulkup("abandon", group, "--yes").code == 0
    tenants.bulkup("resume", group).fails(10, group)
    assert tenants.bulkup("run", "bump.py", "--namespaces", "?").code == 0
    assert values(embedded.client(namespace="c")) == dict.fromkeys(range(1, 5), 1)
    assert values(embedded.client(namespace="a")) == dict.fromkeys(range(1, 5), 2)


def test_the_folder_of_a_pruned_group_goes_too(tenants: Shell) -> None:
    group = group_id(tenants)
    assert tenants.bulkup("resume", group).code == 0
    assert tenants.bulkup("prune", "--older-than", "0s", "--yes").code == 0
    assert tenants.runs() == []


# --- a folder that goes while the run works ---


@pytest.mark.parametrize("at", [2, 10])
def test_a_folder_that_is_deleted_meanwhile_is_told(
    shell: Shell, embedded: Server, at: int
) -> None:
    deletes = f"if entity.key.id == {at}: __import__('shutil').rmtree({str(shell.state_dir)!r})"
    shell.write("bump.py", BUMP.replace("entity[", f"{deletes}\n        entity["))
    result = shell.bulkup("run", "bump.py", "--new", "--batch-size", "3")
    assert result.code == 0, result
    assert "was deleted while the run worked" in result.err + result.out
    assert "Report saved" not in result.err + result.out
    assert values(embedded.client())[10] == 1
