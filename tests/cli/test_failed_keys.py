"""A run with many failures: grouped in its reports, all keys on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkup.core.model import Counts, Failure
from bulkup.state.checkpoint import BatchRow, Checkpoint
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server

FAILING = BUMP + (
    "        if entity.key.id % 2: raise ValueError(f'no price for {entity.key.id!r}')\n"
    "        if entity.key.id == 8: raise KeyError(f'name of {entity.key.id}')\n"
)


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("failing.py", FAILING)
    return shell


@pytest.mark.parametrize("processes", [1, 2])
def test_a_runs_report_groups_its_failures_and_show_has_every_key(
    shell: Shell, embedded: Server, processes: int
) -> None:
    seed(embedded, 40)
    result = shell.bulkup("run", "failing.py", "--max-failures", "-1", "--processes", processes)
    assert result.code == 3, result
    (run,) = shell.runs()
    for text in (result.out, (shell.state_dir / run / "report.txt").read_text()):
        assert "20 entities: the updater raised ValueError: no price for" in text
        assert "and 15 more" in text
        assert "Key('Item', 8): the updater raised KeyError: 'name of 8'" in text
        assert text.count("Traceback (most recent call last)") == 2
        assert f"bulkup show {run} --failed-keys" in text
    keys = shell.bulkup("show", run, "--failed-keys")
    expected = {f"Key('Item', {i})" for i in (*range(1, 41, 2), 8)}
    assert sorted(keys.out.splitlines()) == sorted(expected)
    assert (keys.code, keys.err) == (0, "")
    lines = shell.bulkup("show", "--failed-keys", "--json").lines
    keeps_the_contract(lines)
    assert {line["key"] for line in lines} == expected
    assert {line["run_id"] for line in lines} == {run}
    assert all(line["typed_key"]["path"][0][0] == "Item" for line in lines)


def test_a_resumed_run_groups_the_failures_of_all_its_runners(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 20)
    first = shell.bulkup("run", "failing.py", "--max-failures", "3", "--batch-size", "2", "--json")
    assert first.code == 1
    assert sum(group["count"] for group in first.summary["failure_groups"]) == 4
    last = shell.bulkup("resume", "--max-failures", "-1", "--json").summary
    assert last["counts"]["failed"] == 11
    assert sorted(group["count"] for group in last["failure_groups"]) == [1, 10]


def test_a_dry_run_groups_them_too(shell: Shell, embedded: Server) -> None:
    seed(embedded, 10)
    dry = shell.bulkup("run", "-n", "failing.py", "--max-failures", "-1")
    assert "5 entities: the updater raised ValueError: no price for" in dry.out


def test_the_report_on_namespaces_groups_the_failures_of_all(
    shell: Shell, embedded: Server
) -> None:
    for namespace in ("a", "b"):
        seed(embedded, 6, namespace=namespace)
    ran = shell.bulkup("run", "failing.py", "--max-failures", "-1", "--all-namespaces", "--json")
    (group,) = ran.of_type("group")
    assert [failures["count"] for failures in group["failure_groups"]] == [6]
    keys = shell.bulkup("show", group["run_id"], "--failed-keys").out.splitlines()
    assert len(keys) == 6
    assert "Key('Item', 1, namespace='a')" in keys


def test_keys_are_shown_whole_and_inert(shell: Shell, embedded: Server) -> None:
    seed(embedded, 1)
    assert shell.bulkup("run", "failing.py", "--max-failures", "-1").code == 3
    checkpoint = Checkpoint.open(shell.checkpoint().parent)
    row = BatchRow(1, None, 0, b"", b"", b"", True, Counts(failed=1))
    long = f"Key('Item', {'x' * 3000!r})"
    forged = "\x1b[31mKey\n'Item'\u202e"
    failures = [Failure(key, "handle", "E: x") for key in (long, forged)]
    checkpoint.batch_done(row, low=None, failures=failures)
    checkpoint.close()
    first, second, third = shell.bulkup("show", "--failed-keys").out.splitlines()
    assert (first, second) == ("Key('Item', 1)", long)
    assert third == r"\x1b[31mKey\n'Item'\u202e"
    last = shell.bulkup("show", "--failed-keys", "--json").lines[-1]
    assert (last["key"], last["typed_key"]) == (forged, None)
    keeps_the_contract([last])
    assert json.dumps(last).isascii()
