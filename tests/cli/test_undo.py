"""`bulkup undo` and `bulkup show --changes` at a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Result, Shell, contents, entity, put, seed
from tests.conftest import Server
from tests.runs.undoing import entities

pytestmark = [pytest.mark.sampled(9), pytest.mark.client_side]


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    shell = Shell(tmp_path, server)
    shell.write("bump.py", BUMP)
    seed(server, 6)
    return shell


def ok(result: Result) -> Result:
    assert result.code == 0, result
    return result


def test_a_run_is_undone_listed_so_and_undone_again(shell: Shell, server: Server) -> None:
    before = entities(server)
    ok(shell.bulkup("run", "bump.py"))
    (run_id,) = shell.runs()
    after = entities(server)
    ok(shell.bulkup("undo", run_id))
    assert entities(server) == before
    undo_id = shell.runs()[-1]
    rows = {row["run_id"]: row for row in shell.bulkup("list", "--json").lines}
    assert rows[run_id]["undone_by"] == undo_id
    assert rows[run_id]["undo_bytes"] > 0
    assert (rows[undo_id]["updater"], rows[undo_id]["params"]["run"]) == ("Undo", run_id)
    assert f"undone by {undo_id}" in shell.bulkup("list").out
    assert f"undone by {undo_id}" in shell.bulkup("list", "--all").out
    assert f"Undone by {undo_id}" in shell.bulkup("show", run_id).out
    shell.bulkup("undo", run_id).fails(10, f"undone (by {undo_id})")
    ok(shell.bulkup("undo", undo_id))
    assert entities(server) == after


def test_what_a_run_has_changed_is_shown(shell: Shell, server: Server) -> None:
    ok(shell.bulkup("run", "bump.py"))
    (run_id,) = shell.runs()
    shown = shell.bulkup("show", run_id, "--changes").out
    assert shown.count(" was written") == 6
    assert "    n: 0 → 1" in shown.splitlines(), shown
    one = shell.bulkup("show", run_id, "--changes", "--key", "Key('Item', 3)", "--json")
    keeps_the_contract(one.lines)
    (change,) = one.lines
    assert (change["key"], change["run_id"]) == ("Key('Item', 3)", run_id)
    assert change["changes"] == [{"name": "n", "before": "0", "after": "1"}]
    none = shell.bulkup("show", run_id, "--changes", "--key", "Key('Item', 99)")
    assert "has changed nothing in Key('Item', 99)" in none.err
    shell.bulkup("show", run_id, "--changes", "--key", "Item 3").fails(2, "is not a key")
    alone = shell.bulkup("show", run_id, "--key", "Key('Item', 3)")
    assert (alone.code, "--key goes with --changes" in alone.err) == (2, True)
    # Whatever has become of the entities.
    ok(shell.bulkup("undo", run_id))
    assert shell.bulkup("show", run_id, "--changes").out == shown


def test_what_others_have_changed_is_named_and_kept_without_force(
    shell: Shell, server: Server
) -> None:
    before = entities(server)
    ok(shell.bulkup("run", "bump.py"))
    (run_id,) = shell.runs()
    client = server.client()
    put(client, [entity(client, "Item", 2, n=100)])
    undone = shell.bulkup("undo", run_id, "--json")
    assert undone.code == 3, undone
    keeps_the_contract(undone.lines)
    (failure,) = [line for line in undone.lines if line["type"] == "failure"]
    assert (failure["key"], failure["step"]) == ("Key('Item', 2)", "write")
    assert client.get(client.key("Item", 2))["n"] == 100
    assert undone.summary["next_steps"] == [f"bulkup undo {run_id} --force"]
    shown = shell.bulkup("show").out
    assert "Key('Item', 2): left as it is: somebody has changed it since" in shown, shown
    shell.bulkup("retry", shell.runs()[-1]).fails(2, "cannot be repeated for a list of keys")
    everything = contents(server)
    refused = shell.bulkup("undo", run_id, "--force")
    refused.fails(2, "1 entity", "--yes")
    assert contents(server) == everything
    ok(shell.bulkup("undo", run_id, "--force", "--yes"))
    assert entities(server) == before


def test_an_unknown_run_and_one_without_images_are_one_sentence(
    shell: Shell, server: Server
) -> None:
    ok(shell.bulkup("run", "bump.py", "--no-undo"))
    (run_id,) = shell.runs()
    everything = contents(server)
    shell.bulkup("undo", "20200101-000000").fails(10, "there is no run")
    shell.bulkup("undo", run_id).fails(1, "it was started with --no-undo")
    shell.bulkup("show", run_id, "--changes").fails(1, "has kept no before-images")
    assert contents(server) == everything
    assert shell.runs() == [run_id]


def test_another_target_is_refused(shell: Shell, server: Server) -> None:
    ok(shell.bulkup("run", "bump.py"))
    (run_id,) = shell.runs()
    everything = contents(server)
    shell.bulkup("undo", run_id, "--project", "other").fails(2, run_id)
    shell.bulkup("undo", run_id, "--namespace", "other").fails(2, run_id)
    assert contents(server) == everything


@pytest.mark.parametrize("server", ["EM", "LF"], indirect=True)  # FS cannot list namespaces
def test_a_group_of_namespaces_is_undone(shell: Shell, server: Server) -> None:
    for namespace in ("a", "b"):
        seed(server, 3, namespace=namespace)
    spaces = ("", "a", "b")
    before = {name: entities(server, name) for name in spaces}
    ok(shell.bulkup("run", "bump.py", "--all-namespaces"))
    group_id = shell.runs()[0].partition("@")[0]
    assert {name: entities(server, name) for name in spaces} != before
    ok(shell.bulkup("undo", group_id))
    assert {name: entities(server, name) for name in spaces} == before
    shell.bulkup("undo", group_id).fails(10, f"nothing of group {group_id} is left to undo")


def test_a_migration_that_is_undone_is_pending_again(shell: Shell, server: Server) -> None:
    before = entities(server)
    shell.write("updaters/0001_bump.py", BUMP)
    ok(shell.bulkup("migrate"))
    after = entities(server)
    run_id = shell.runs()[-1]
    undone = shell.bulkup("undo", run_id)
    ok(undone)
    assert "migration 0001_bump is no longer applied" in undone.err
    assert entities(server) == before
    assert shell.bulkup("status", "--check").code == 4
    ok(shell.bulkup("migrate"))
    assert entities(server) == after
    ok(shell.bulkup("status", "--check"))


def test_a_migration_whose_undo_is_undone_or_resumed_is_what_its_data_is(
    shell: Shell, server: Server
) -> None:
    before = entities(server)
    shell.write("updaters/0001_bump.py", BUMP)
    ok(shell.bulkup("migrate"))
    after = entities(server)
    run_id = shell.runs()[-1]
    stopped = shell.bulkup("undo", run_id, "--limit", "2", "--batch-size", "1")
    assert stopped.code == 75, stopped
    ok(shell.bulkup("status", "--check"))
    resumed = shell.bulkup("resume")
    ok(resumed)
    assert "migration 0001_bump is no longer applied" in resumed.err
    assert entities(server) == before
    assert shell.bulkup("status", "--check").code == 4
    redone = shell.bulkup("undo", shell.runs()[-1])
    ok(redone)
    assert "migration 0001_bump is applied again" in redone.err
    assert entities(server) == after
    ok(shell.bulkup("status", "--check"))
    ok(shell.bulkup("migrate"))
    assert entities(server) == after


def test_prune_deletes_undo_logs_and_then_undo_needs_a_server_that_keeps_its_past(
    shell: Shell, server: Server
) -> None:
    before = entities(server)
    ok(shell.bulkup("run", "bump.py"))
    (run_id,) = shell.runs()
    ok(shell.bulkup("prune", "--older-than", "0s", "--yes"))
    undone = shell.bulkup("undo", run_id)
    if server.name == "LF":
        undone.fails(1, "cannot read the past")
        assert entities(server) != before
    else:
        assert "is not here, and with it its before-images" in ok(undone).err
        assert entities(server) == before
