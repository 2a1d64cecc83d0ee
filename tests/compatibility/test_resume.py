"""A run that an earlier version of bulkup left unfinished is resumed by this one.

The updaters are not idempotent: an entity that is handled twice, or never, shows.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Result, Shell, ended
from tests.compatibility.conftest import Project

pytestmark = pytest.mark.sampled(2)

RUN = ("run", "bump.py", "-p", "step=2", "--local", "shop.db")
UNFINISHED = ["killed", "limited"]
BUMPED = {i: None if i == 5 else 2 for i in range(1, 61)}
"""What becomes of the Items: the fifth has no number, so it fails, within the budget."""


def items(shell: Shell, name: str, namespace: str = "") -> dict[int, Any]:
    """A property of every Item, by id."""
    where = ("--namespace", namespace) if namespace else ()
    result = shell.bulkup("local", "dump", "shop.db", "--kind", "Item", *where)
    assert result.code == 0, result
    entities = [json.loads(line) for line in result.out.splitlines()]
    return {entity["__key__"][-1]: entity.get(name) for entity in entities}


def unfinished_run(shell: Shell) -> str:
    (run_id,) = shell.runs()
    return run_id


def completed(result: Result, run_id: str) -> None:
    """One bad entity was named, all others were handled; by the earlier runner and this one."""
    assert result.code == 3, result
    summary = result.summary
    assert summary["run_id"] == run_id
    assert summary["counts"]["handled"] == 60
    assert summary["counts"]["puts"] == 59
    assert summary["counts"]["failed"] == 1
    assert [failure["key"] for failure in summary["failures"]] == ["Key('Item', 5)"]
    assert summary["log_lines"] == ["seven was here"]
    assert summary["runners"] == 2


# --- one run ---


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", UNFINISHED)
def test_the_same_command_resumes_it(moved: Project, name: str) -> None:
    shell = moved(name)
    run_id = unfinished_run(shell)
    completed(shell.bulkup(*RUN, "--json"), run_id)
    assert items(shell, "n") == BUMPED


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", UNFINISHED)
def test_the_same_command_resumes_it_without_the_state_directory(
    moved: Project, name: str, tmp_path: Path
) -> None:
    shell = moved(name)
    run_id = unfinished_run(shell)
    shell.state_dir.rename(tmp_path / "lost")
    result = shell.bulkup(*RUN, "--json")
    assert result.code == 3, result
    summary = result.summary
    assert summary["run_id"] == run_id
    assert summary["counts"]["handled"] == 60
    assert summary["counts"]["failed"] == 1
    assert items(shell, "n") == BUMPED


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", UNFINISHED)
def test_bulkup_resume_resumes_it(in_place: Project, name: str) -> None:
    shell = in_place(name)
    completed(shell.bulkup("resume", "--json"), unfinished_run(shell))
    assert items(shell, "n") == BUMPED


@pytest.mark.chaos
def test_several_processes_resume_it_in_other_shards(in_place: Project) -> None:
    shell = in_place("killed")
    options = ("--shards", "3", "--processes", "2", "--batch-size", "7")
    result = ended(shell.begin("resume", unfinished_run(shell), *options))
    assert result.code == 3, result
    assert items(shell, "n") == BUMPED


def test_other_parameters_start_a_new_run_and_name_the_unfinished_one(moved: Project) -> None:
    shell = moved("limited")
    run_id = unfinished_run(shell)
    result = shell.bulkup("run", "bump.py", "--local", "shop.db", "--limit", "3", "--json")
    assert result.code == 75, result
    assert result.summary["run_id"] != run_id
    assert any(run_id in warning["message"] for warning in result.of_type("warning"))


def test_a_lease_of_the_earlier_version_is_respected_until_it_runs_out(moved: Project) -> None:
    shell = moved("killed")

    def lease(seconds: int) -> None:
        until = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        dumped = shell.bulkup("local", "dump", "shop.db", "--kind", "BulkupRun", "--lossless").out
        record = json.loads(dumped)
        record["properties"]["lease_until"]["timestampValue"] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        shell.write("record.jsonl", json.dumps(record))
        loaded = shell.bulkup("local", "load", "shop.db", "record.jsonl")
        assert loaded.code == 0, loaded

    lease(50)
    before = items(shell, "n")
    shell.bulkup(*RUN).fails(11, "ada@old-machine", unfinished_run(shell))
    assert items(shell, "n") == before
    lease(-1)
    completed(shell.bulkup(*RUN, "--json"), unfinished_run(shell))
    assert items(shell, "n") == BUMPED


def test_a_late_commit_of_the_killed_runner_is_kept_out(moved: Project) -> None:
    """It would insert the next marker of its shard, so a fence must stand under that very key."""
    shell = moved("killed")
    last: dict[str, str] = {}
    for name in sorted(marker_names(shell)):
        run_id, shard, number, _ = name.split("/")
        last[f"{run_id}/{shard}"] = number
    assert len(last) == 2
    assert shell.bulkup(*RUN).code == 3
    left = marker_names(shell)
    for shard, number in last.items():
        assert f"{shard}/{int(number) + 1:09d}/0000" in left


def marker_names(shell: Shell) -> set[str]:
    dumped = shell.bulkup("local", "dump", "shop.db", "--kind", "BulkupMarker", "--lossless").out
    return {json.loads(line)["key"]["path"][0]["name"] for line in dumped.splitlines()}


# --- migrations, chains, namespaces ---


@pytest.mark.one_in(2)
def test_migrate_resumes_the_migration_that_was_killed(moved_or_lost: Project) -> None:
    shell = moved_or_lost("migrating")
    result = shell.bulkup("migrate", "--local", "shop.db", "--json")
    assert result.code == 0, result
    (outcome,) = result.of_type("migrate")
    assert outcome["applied"] == ["0002_b", "0003_c"]
    assert items(shell, "trail") == dict.fromkeys(range(1, 61), "abc")


@pytest.mark.one_in(2)
def test_a_chain_continues_with_the_successor_that_was_killed(moved_or_lost: Project) -> None:
    shell = moved_or_lost("chained")
    result = shell.bulkup("run", "first.py", "--local", "shop.db", "--json")
    assert result.code == 0, result
    ran = [summary["run_id"].partition("+")[2] for summary in result.of_type("summary")]
    assert ran == ["1", "2"]
    assert items(shell, "trail") == dict.fromkeys(range(1, 61), "abc")


def test_bulkup_resume_continues_the_chain(in_place: Project) -> None:
    shell = in_place("chained")
    assert shell.bulkup("resume").code == 0
    assert items(shell, "trail") == dict.fromkeys(range(1, 61), "abc")


@pytest.mark.one_in(2)
def test_each_namespace_is_done_once(moved_or_lost: Project) -> None:
    shell = moved_or_lost("namespaces")
    words = ("run", "bump.py", "--local", "shop.db", "--namespaces", "tenant-*", "--json")
    result = shell.bulkup(*words)
    assert result.code == 0, result
    for number in (1, 2, 10):
        ids = range(100 * number + 1, 100 * number + 21)
        assert items(shell, "n", f"tenant-{number}") == dict.fromkeys(ids, 1)


# --- a query whose entities move ---


def test_a_run_whose_entities_move_is_resumed_with_its_state_directory(moved: Project) -> None:
    shell = moved("moving")
    result = shell.bulkup("run", "raise_n.py", "--local", "shop.db", "--json")
    assert result.code == 0, result
    assert result.summary["counts"]["handled"] == 59  # the fifth has no place in the order
    assert items(shell, "n") == {i: 1000 + i if i != 5 else None for i in range(1, 61)}


def test_a_run_whose_entities_move_is_refused_without_it(moved: Project, tmp_path: Path) -> None:
    shell = moved("moving")
    run_id = unfinished_run(shell)
    before = items(shell, "n")
    shell.state_dir.rename(tmp_path / "lost")
    result = shell.bulkup("run", "raise_n.py", "--local", "shop.db")
    result.fails(1, run_id, "ada@old-machine", "--new")
    assert items(shell, "n") == before
