"""`bulkup retry RUN`: the failed entities again, after the updater was fixed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bulkup.state.files import RunLock
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, contents, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

FAILING = BUMP + "        if entity.key.id % 3 == 0: raise ValueError('three')\n"
HALF_FIXED = BUMP + "        if entity.key.id % 6 == 0: raise KeyError('six')\n"
FILTERED = """
    import bulkup

    @bulkup.updater(kind="Item", filters=[("open", "=", True)], max_failures=-1)
    def close(entity):
        FAIL
        entity["n"] += 1
        entity["open"] = False
        return entity
"""


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    return Shell(tmp_path, server)


def failed(shell: Shell, *more: object) -> str:
    """A finished run in which 3, 6, 9 and 12 of 12 have failed."""
    shell.write("bump.py", FAILING)
    ran = shell.bulkup("run", "bump.py", "-p", "step=10", "--max-failures", -1, "--json", *more)
    assert ran.code == 3, ran
    run = str(ran.summary["run_id"])
    assert ran.summary["next_steps"] == [f"bulkup retry {run}"]
    return run


def test_a_retry_handles_what_failed_and_nothing_else(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    assert f"Next: bulkup retry {run}" in shell.bulkup("show", run).out
    shell.write("bump.py", HALF_FIXED)
    dry = shell.bulkup("retry", "-n", run, "--max-failures", -1, "--json")
    assert (dry.code, dry.summary["counts"]["handled"]) == (3, 4)
    assert shell.runs() == [run]

    first = shell.bulkup("retry", run, "--json")
    assert first.code == 3, first
    keeps_the_contract(first.lines)
    assert (
        first.summary["counts"] | {"handled": 4, "written": 2, "failed": 2}
        == (first.summary["counts"])
    )
    assert first.summary["retry_of"] == run
    assert first.summary["params"] == {"step": "10"}
    assert first.summary["next_steps"] == [f"bulkup retry {run}"]
    keys = shell.bulkup("show", run, "--failed-keys").out.splitlines()
    assert sorted(keys) == ["Key('Item', 12)", "Key('Item', 6)"]
    shown = shell.bulkup("show", run)
    assert "KeyError: 'six'" in shown.out
    assert "three" not in shown.out
    assert f"Retried by  {first.summary['run_id']}" in shown.out

    shell.write("bump.py", BUMP)
    second = shell.bulkup("retry", run, "--json")
    assert (second.code, second.summary["counts"]["written"]) == (0, 2)
    assert values(client) == dict.fromkeys(range(1, 13), 10)
    summary = shell.bulkup("show", run, "--json").lines[-1]
    keeps_the_contract([summary])
    assert (summary["counts"]["failed"], summary["retried"], summary["failures"]) == (4, 4, [])
    assert summary["retried_by"] == [first.summary["run_id"], second.summary["run_id"]]
    assert summary["next_steps"] == []
    listed = shell.bulkup("list", "--json").lines
    assert [line["retry_of"] for line in listed] == [run, run, ""]
    assert listed[-1]["retried"] == 4

    before = contents(server)
    third = shell.bulkup("retry", run)
    assert (third.code, third.out) == (0, f"Run {run} of Bump has no failed entity to retry.\n")
    as_json = shell.bulkup("retry", run, "--json")
    (line,) = as_json.lines
    assert (line["type"], line["exit_code"]) == ("nothing_to_retry", 0)
    keeps_the_contract(as_json.lines)
    assert contents(server) == before


def test_a_retry_that_stops_is_resumed_by_the_same_command(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    shell.write("bump.py", BUMP)
    stopped = shell.bulkup("retry", run, "--limit", 2, "--batch-size", 1)
    assert stopped.code == 75, stopped
    assert len(shell.bulkup("show", run, "--failed-keys").out.splitlines()) == 4
    assert "there is no failed" not in stopped.err
    again = shell.bulkup("retry", run, "--json")
    assert again.code == 0, again
    assert again.summary["counts"]["handled"] == 4
    assert again.summary["runners"] == 2
    assert values(client) == dict.fromkeys(range(1, 13), 10)
    assert shell.bulkup("show", run, "--failed-keys").out == ""


@pytest.mark.client_side
def test_a_retry_is_resumed_as_any_run_is(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("retry", run, "--limit", 2, "--batch-size", 1).code == 75
    resumed = shell.bulkup("resume")
    assert resumed.code == 0, resumed
    assert values(client) == dict.fromkeys(range(1, 13), 10)
    assert shell.bulkup("show", run, "--failed-keys").out == ""


def test_a_retry_whose_folder_is_lost_handles_nothing_twice(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("retry", run, "--limit", 2, "--batch-size", 1).code == 75
    shutil.rmtree(shell.state_dir / shell.runs()[-1])
    again = shell.bulkup("retry", run)
    assert again.code == 0, again
    assert values(client) == dict.fromkeys(range(1, 13), 10)
    assert shell.bulkup("show", run, "--failed-keys").out == ""


def test_a_retry_of_a_retry_is_one_of_the_first_run(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    shell.write("bump.py", HALF_FIXED)
    first = str(shell.bulkup("retry", run, "--json").summary["run_id"])
    shell.write("bump.py", BUMP)
    second = shell.bulkup("retry", first, "--json")
    assert (second.code, second.summary["retry_of"]) == (0, run)
    assert values(client) == dict.fromkeys(range(1, 13), 10)


@pytest.mark.client_side
def test_all_may_fail_again_and_again(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    for _ in range(2):
        again = shell.bulkup("retry", run, "--json")
        assert (again.code, again.summary["counts"]["failed"]) == (3, 4)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("retry", run).code == 0
    assert values(client) == dict.fromkeys(range(1, 13), 10)


@pytest.mark.client_side
def test_keys_of_a_file_may_be_retried(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    shell.write("bump.py", BUMP)
    shell.write("keys.txt", "Key('Item', 6)\nKey('Item', 1)\n")
    again = shell.bulkup("retry", run, "--keys-from", "keys.txt", "--json")
    assert (again.code, again.summary["counts"]["written"]) == (0, 2)
    assert {id_: n for id_, n in values(client).items() if n != 10} == {1: 20, 3: 0, 9: 0, 12: 0}
    keys = shell.bulkup("show", run, "--failed-keys").out.splitlines()
    assert sorted(keys) == ["Key('Item', 12)", "Key('Item', 3)", "Key('Item', 9)"]


def test_what_no_longer_matches_the_query_or_is_gone_has_vanished(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 4, open=True)
    shell.write("close.py", FILTERED.replace("FAIL", "raise ValueError"))
    ran = shell.bulkup("run", "close.py", "--json")
    assert ran.code == 3, ran
    shell.write("close.py", FILTERED.replace("FAIL", "pass"))
    by_hand = client.get(client.key("Item", 2))
    by_hand["open"] = False
    client.put(by_hand)
    client.delete(client.key("Item", 3))
    again = shell.bulkup("retry", ran.summary["run_id"], "--json")
    counts = again.summary["counts"]
    assert (again.code, counts["written"], counts["vanished"]) == (0, 2, 2)
    assert values(client) == {1: 1, 2: 0, 4: 1}


@pytest.mark.client_side
def test_a_retry_is_on_the_runs_own_target_and_refuses_another(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 12, namespace="x")
    run = failed(shell, "--namespace", "x")
    shell.write("bump.py", BUMP)
    before = contents(server, "x")
    shell.bulkup("retry", run, "--namespace", "y").fails(2, f"run {run} is on", "namespace x")
    shell.bulkup("retry", "nothing").fails(10, "there is no run 'nothing'")
    assert contents(server, "x") == before
    assert shell.bulkup("retry", run).code == 0
    assert values(client) == dict.fromkeys(range(1, 13), 10)


@pytest.mark.client_side
def test_an_unfinished_run_is_resumed_before_it_is_retried(shell: Shell, server: Server) -> None:
    seed(server, 12)
    shell.write("bump.py", FAILING)
    assert shell.bulkup("run", "bump.py", "--batch-size", 1).code == 1
    (run,) = shell.runs()
    shell.bulkup("retry", run).fails(2, f"run {run} is not finished", f"bulkup resume {run}")


@pytest.mark.client_side
def test_of_two_retries_at_once_the_second_is_refused(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    run = failed(shell)
    shell.write("bump.py", BUMP)
    lock = RunLock(shell.state_dir / run)
    lock.acquire()
    try:
        shell.bulkup("retry", run).fails(11, "is working on run", run)
    finally:
        lock.release()
    assert shell.bulkup("retry", run).code == 0
    assert values(client) == dict.fromkeys(range(1, 13), 10)


@pytest.mark.client_side
def test_a_retry_begins_no_successor(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    chain = "\n\nclass Second(Bump):\n    then = None\n\nclass First(Bump):\n    then = Second\n"
    only_first = FAILING.replace("if entity", "if self.step == 10 and entity")
    shell.write("chain.py", only_first + chain)
    ran = shell.bulkup("run", "chain.py:First", "-p", "step=10", "--max-failures", -1)
    assert ran.code == 0, ran
    first = shell.runs()[0]
    shell.write("chain.py", BUMP + chain)
    again = shell.bulkup("retry", first)
    assert again.code == 0, again
    assert values(client) == dict.fromkeys(range(1, 13), 11)


@pytest.mark.client_side
def test_failures_that_nothing_names_are_said(shell: Shell, server: Server) -> None:
    seed(server, 12)
    run = failed(shell)
    with closing(sqlite3.connect(shell.checkpoint(run))) as db:
        db.execute("DELETE FROM failures WHERE key = ?", ("Key('Item', 6)",))
        db.commit()
    shell.write("bump.py", BUMP)
    again = shell.bulkup("retry", run)
    assert again.code == 0, again
    assert "1 failed entity cannot be retried" in again.err
    rest = shell.bulkup("retry", run)
    assert rest.code == 3
    assert rest.out == f"Run {run} of Bump has no failed entity that can be named.\n"
    assert "1 failed entity cannot be retried" in rest.err


def test_several_namespaces_are_retried_one_at_a_time(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    clients = [seed(embedded, 3, namespace=name) for name in ("a", "b")]
    shell.write("bump.py", FAILING)
    ran = shell.bulkup("run", "bump.py", "--namespaces", "*", "--max-failures", -1, "--json")
    assert ran.code == 3, ran
    (group,) = ran.of_type("group")
    shell.bulkup("retry", group["run_id"]).fails(2, "is a group of runs")
    shell.write("bump.py", BUMP)
    assert shell.bulkup("retry", f"{group['run_id']}@a").code == 0
    assert [values(client)[3] for client in clients] == [1, 0]
