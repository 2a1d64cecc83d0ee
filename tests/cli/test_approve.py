"""`bulkup approve`, and targets that run nothing without."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import datastore

from bulkup import BulkPut, Updater
from bulkup.core.errors import Exit
from bulkup.core.model import TargetInfo
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.plan_check import asks_for_approval
from bulkup.state.kinds import APPROVAL_KIND, RUN_KIND
from tests.cli.shell import BUMP, Shell, contents, entity, seed, user_data, values
from tests.conftest import Server
from tests.migrations.conftest import trails, write_step
from tests.namespaces.conftest import make_tenants

pytestmark = pytest.mark.sampled(9)

COUNT = 6

CONFIG = """
    [targets.prod]
    project = "{project}"
    require_approval = true
    """


def project(folder: Path, server: Server) -> Shell:
    shell = Shell(folder, server)
    shell.write("bump.py", BUMP)
    shell.write("bulkup.toml", CONFIG.format(project=server.project))
    return shell


@pytest.fixture
def here(tmp_path: Path, embedded: Server) -> Shell:
    return project(tmp_path, embedded)


def plan(shell: Shell, updater: str = "bump.py", *options: str, out: str = "plan.jsonl") -> str:
    """Make a plan; return its id."""
    result = shell.bulkup("plan", updater, "--full", "--out", out, *options)
    assert result.code in (0, Exit.DONE_WITH_FAILURES), result
    plan_id = json.loads((shell.folder / out).read_text().splitlines()[0])["plan_id"]
    assert isinstance(plan_id, str)
    return plan_id


def approve(shell: Shell, *options: str, out: str = "plan.jsonl") -> str:
    result = shell.bulkup("approve", out, *options)
    assert result.code == 0, result
    return result.out


def approvals(client: datastore.Client) -> list[datastore.Entity]:
    return list(client.query(kind=APPROVAL_KIND).fetch())


@pytest.mark.client_side
def test_without_an_approved_plan_nothing_is_written(tmp_path: Path, server: Server) -> None:
    seed(server, COUNT)
    shell = project(tmp_path, server)
    shell.write("ups/0001_bump.py", BUMP)
    before = contents(server)
    for command in (
        ("run", "bump.py", "--target", "prod"),
        ("run", "bump.py"),  # the same project, however it is named
        ("migrate", "ups"),
    ):
        result = shell.bulkup(*command)
        result.fails(Exit.FAILED, "target prod asks for an approved plan", "bulkup approve plan")
        assert len(result.err.splitlines()) == 1
    plan(shell)
    result = shell.bulkup("run", "bump.py", "--plan", "plan.jsonl")
    result.fails(Exit.FAILED, "asks for an approved plan", "bulkup approve plan.jsonl")
    assert contents(server) == before
    assert shell.runs() == []
    for reading in (("run", "-n", "bump.py"), ("migrate", "ups", "-n"), ("status", "ups")):
        assert shell.bulkup(*reading).code == 0


@pytest.mark.one_in(3)
@pytest.mark.parametrize("option", [("--plan", "plan.jsonl"), ()], ids=["with", "without"])
def test_an_approved_plan_lets_one_run_begin(
    tmp_path: Path, server: Server, option: tuple[str, ...]
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    plan_id = plan(shell)
    told = approve(shell)
    assert told.startswith(f"Plan {plan_id} of Bump on project {server.project}")
    (record,) = approvals(client)
    assert (record["plan"], record["updater"], record["spent"]) == (plan_id, "Bump", "")
    assert f"is approved by {record['who']} on {record['approved']:%Y-%m-%d %H:%M} UTC." in told
    assert "@" in record["who"]
    result = shell.bulkup("run", "bump.py", *option, "--json")
    assert result.code == 0, result
    kept = result.summary["plan"]
    assert (kept["plan_id"], kept["approved_by"]) == (plan_id, record["who"])
    assert kept["approved"][:16] == f"{record['approved']:%Y-%m-%dT%H:%M}"
    assert f"; approved by {record['who']}, " in shell.bulkup("show").out
    assert set(values(client).values()) == {1}
    before = user_data(server)
    again = shell.bulkup("run", "bump.py", *option)
    again.fails(Exit.FAILED, f"the plan {plan_id} of Bump", "was carried out by run", "bulkup plan")
    assert user_data(server) == before


def test_an_approved_run_that_was_stopped_is_resumed_and_held_to_its_plan(
    tmp_path: Path, server: Server
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    plan(shell)
    approve(shell)
    assert shell.bulkup("run", "bump.py", "--limit", "2", "--batch-size", "1").code == Exit.LIMIT
    shell.write("bump.py", BUMP.replace("+= self.step", "+= 2 * self.step"))
    before = contents(server)
    for command in (("resume",), ("run", "bump.py")):
        shell.bulkup(*command).fails(Exit.USAGE, "the code of Bump is not that of the plan")
    assert contents(server) == before
    shell.write("bump.py", BUMP)
    assert shell.bulkup("resume").code == 0
    assert set(values(client).values()) == {1}


def test_code_that_has_changed_since_it_was_approved_is_refused(
    here: Shell, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    plan(here)
    approve(here)
    before = contents(embedded)
    here.write("bump.py", BUMP.replace("+= self.step", "+= 2 * self.step"))
    here.bulkup("run", "bump.py").fails(
        Exit.FAILED, "the code of Bump has changed since its plan", "bulkup plan", "bulkup approve"
    )
    assert contents(embedded) == before
    here.bulkup("run", "bump.py", "-p", "step=2").fails(Exit.FAILED, "with these parameters")
    here.write("bump.py", "# a comment\n" + BUMP)
    assert here.bulkup("run", "bump.py").code == 0
    assert set(values(client).values()) == {1}


def test_approving_twice_changes_nothing_and_another_plan_replaces_the_first(
    here: Shell, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    first = plan(here)
    approve(here)
    (record,) = approvals(client)
    before = contents(embedded)
    assert f"was approved before, by {record['who']}" in approve(here)
    assert contents(embedded) == before
    client.put(entity(client, "Item", COUNT + 1, n=0))
    second = plan(here, out="second.jsonl")
    here.bulkup("run", "bump.py", "--plan", "second.jsonl").fails(
        Exit.FAILED, f"approved is {first}, not {second}", "bulkup approve second.jsonl"
    )
    result = here.bulkup("approve", "second.jsonl")
    assert result.code == 0
    assert f"This replaces the plan {first}" in result.err
    assert [record["plan"] for record in approvals(client)] == [second]
    here.bulkup("run", "bump.py", "--plan", "plan.jsonl").fails(Exit.FAILED, f"is {second}, not")
    assert here.bulkup("run", "bump.py").code == 0


def test_a_plan_that_expects_failures_is_approved_only_on_purpose(
    here: Shell, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    here.write("bump.py", BUMP.replace("self.put", "1 // (entity.key.id - 3); self.put"))
    plan(here)
    before = contents(embedded)
    here.bulkup("approve", "plan.jsonl").fails(
        Exit.USAGE, "not a terminal; confirm with --yes", "expects 1 entity to fail"
    )
    assert contents(embedded) == before
    for answer, code in (("n\n", Exit.FAILED), ("y\n", 0)):
        terminal, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "bulkup", "approve", "plan.jsonl"],
            cwd=here.folder, env=here.environment, stdin=theirs, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True, text=True,
        ) as process:  # fmt: skip
            os.write(terminal, answer.encode())
            _, err = process.communicate(timeout=300)
        os.close(theirs)
        os.close(terminal)
        assert "expects 1 entity to fail. Approve it all the same?" in err
        assert process.returncode == code, err
        assert len(approvals(client)) == (code == 0)
    result = here.bulkup("run", "bump.py", "--max-failures", "1")
    assert result.code == Exit.DONE_WITH_FAILURES
    assert sum(values(client).values()) == COUNT - 1


def test_a_plan_is_approved_for_its_own_target_alone(here: Shell, embedded: Server) -> None:
    seed(embedded, COUNT)
    seed(embedded, COUNT, namespace="eu")
    plan(here)
    before = contents(embedded, "", "eu")
    here.bulkup("approve", "plan.jsonl", "--namespace", "eu").fails(
        Exit.USAGE, "is a plan for project", "not for project", "namespace eu"
    )
    assert contents(embedded, "", "eu") == before
    approve(here)
    here.bulkup("run", "bump.py", "--namespace", "eu").fails(
        Exit.FAILED, "asks for an approved plan"
    )
    # A copy of the record in another namespace approves nothing there.
    client = embedded.client()
    (record,) = approvals(client)
    there = embedded.client(namespace="eu")
    copy = datastore.Entity(there.key(APPROVAL_KIND, record.key.name))
    copy.update(record)
    there.put(copy)
    here.bulkup("run", "bump.py", "--namespace", "eu").fails(
        Exit.FAILED, "asks for an approved plan, and none of Bump"
    )
    assert user_data(embedded, "eu") == {k: v for k, v in before.items() if b"eu" in k}


def test_an_edited_plan_is_not_approved(here: Shell, embedded: Server) -> None:
    seed(embedded, COUNT)
    plan(here)
    path = here.folder / "plan.jsonl"
    before = contents(embedded)
    path.write_text(path.read_text().replace('"action": "put"', '"action": "delete"'))
    here.bulkup("approve", "plan.jsonl").fails(Exit.USAGE, "make the plan again")
    here.bulkup("approve", "none.jsonl").fails(Exit.USAGE, "cannot read the plan")
    here.bulkup("approve", "bump.py").fails(Exit.USAGE, "is not a plan")
    assert contents(embedded) == before


def test_a_drift_stops_a_run_with_an_approved_plan(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    plan(here)
    approve(here)
    seed(embedded, 2 * COUNT)
    result = here.bulkup("run", "bump.py", "--batch-size", "1")
    assert result.code == Exit.LIMIT
    assert "7 entities were handled, and the plan predicted 6" in result.out
    assert sum(values(client).values()) == COUNT


def test_abandon_takes_the_approval_back(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    plan_id = plan(here)
    approve(here)
    assert here.bulkup("run", "bump.py", "--limit", "2", "--batch-size", "1").code == Exit.LIMIT
    (run_id,) = here.runs()
    assert here.bulkup("abandon", run_id, "--yes").code == 0
    (record,) = approvals(client)
    assert record["spent"] == f"was given up with run {run_id}"
    here.bulkup("run", "bump.py").fails(Exit.FAILED, f"the plan {plan_id} of Bump", "was given up")
    again = here.bulkup("approve", "plan.jsonl")
    assert again.code == 0
    assert f"which was given up with run {run_id}" in again.err


def test_a_run_that_began_without_approval_is_not_resumed_where_it_is_asked_for(
    here: Shell, embedded: Server
) -> None:
    seed(embedded, COUNT)
    config = here.folder / "bulkup.toml"
    asks = config.read_text()
    config.write_text(asks.replace("true", "false"))
    assert here.bulkup("run", "bump.py", "--limit", "2").code == Exit.LIMIT
    config.write_text(asks)
    before = contents(embedded)
    for command in (("resume",), ("run", "bump.py")):
        here.bulkup(*command).fails(Exit.FAILED, "was started without one", "bulkup abandon")
    assert contents(embedded) == before


def test_each_migration_needs_its_plan(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    for number, mark in enumerate("ab", 1):
        write_step(here, f"{number:04d}_{mark}", mark)
    plan(here, "updaters/0001_a.py")
    approve(here)
    result = here.bulkup("migrate", "--json")
    assert result.code == Exit.FAILED, result
    (ended,) = result.of_type("migrate")
    assert (ended["applied"], ended["stopped_at"]) == (["0001_a"], "0002_b")
    assert "asks for an approved plan" in ended["reason"]
    assert trails(client) == {"a"}
    before = contents(embedded)
    here.bulkup("migrate").fails(Exit.FAILED, "asks for an approved plan")
    assert contents(embedded) == before
    plan(here, "updaters/0002_b.py")
    approve(here)
    assert here.bulkup("migrate").code == 0
    assert trails(client) == {"ab"}


def test_every_namespace_needs_its_plan_before_the_first_write(
    tmp_path: Path, embedded: Server
) -> None:
    tenants = make_tenants(tmp_path, embedded)
    shell = tenants.shell
    shell.write("bulkup.toml", CONFIG.format(project=embedded.project))
    names = ("tenant-1", "tenant-10", "tenant-2")
    for name in names[:2]:
        plan(shell, "bump.py", "--namespace", name)
        approve(shell)
    before = tenants.contents()
    every = ("run", "bump.py", "--namespaces", "tenant-*")
    shell.bulkup(*every).fails(Exit.FAILED, "asks for an approved plan", "--namespace tenant-2")
    assert tenants.contents() == before
    plan(shell, "bump.py", "--namespace", names[2])
    approve(shell)
    assert shell.bulkup(*every).code == 0
    tenants.assert_each_done(namespaces=names)


def test_lists_of_keys_and_retries_need_a_plan_that_they_cannot_have(
    here: Shell, embedded: Server
) -> None:
    seed(embedded, COUNT)
    here.write("bump.py", BUMP.replace("self.put", "1 // (entity.key.id - 3); self.put"))
    plan(here)
    approve(here, "--yes")
    here.bulkup("run", "bump.py", "--max-failures", "1")
    here.write("keys.txt", "Key('Item', 3)\n")
    before = contents(embedded)
    here.write("bump.py", BUMP)
    for command in (("retry", here.runs()[-1]), ("run", "bump.py", "--keys-from", "keys.txt")):
        here.bulkup(*command).fails(Exit.FAILED, "target prod", "a run on a list of keys has none")
    assert contents(embedded) == before


def test_further_passes_are_approved_with_the_first(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    again = BUMP.replace("step: int", "idempotent = True\n    step: int").replace("+=", "=")
    here.write("bump.py", again)
    plan(here)
    approve(here)
    result = here.bulkup("run", "bump.py", "--until-clean", "--json")
    assert result.code == 0, result
    assert [bool(one["plan"]["approved_by"]) for one in result.of_type("summary")] == [True, True]
    assert set(values(client).values()) == {1}


def test_a_successor_needs_a_plan_of_its_own(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    here.write("second.py", BUMP)
    first = BUMP.replace("step: int", "then = 'second.py'\n    step: int")
    here.write("first.py", first)
    plan(here, "first.py")
    approve(here)
    result = here.bulkup("run", "first.py")
    assert result.code == Exit.FAILED
    assert "asks for an approved plan" in result.err
    assert set(values(client).values()) == {1}
    plan(here, "second.py")
    approve(here)
    result = here.bulkup("resume")
    assert result.code == 0, result
    assert set(values(client).values()) == {2}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "damage",
    [{"terms": "{}"}, {"terms": "null"}, {"terms": "["}, {"plan": "x"}, {"identity": "x"},
     {"spent": 5}, {"parameters": "[]"}],
    ids=str,
)  # fmt: skip
def test_an_approval_that_is_damaged_approves_nothing(
    here: Shell, embedded: Server, damage: dict[str, object]
) -> None:
    client = seed(embedded, COUNT)
    plan(here)
    approve(here)
    (record,) = approvals(client)
    record.update(damage)
    client.put(record)
    before = contents(embedded)
    here.bulkup("run", "bump.py").fails(Exit.FAILED, "was not written by this version", "delete it")
    here.bulkup("approve", "plan.jsonl").fails(Exit.FAILED, "was not written by this version")
    assert contents(embedded) == before
    client.delete(record.key)
    approve(here)
    assert here.bulkup("run", "bump.py").code == 0


def test_approvals_are_bulkups_own(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    plan(here)
    approve(here)
    here.write(
        "all.py",
        """
        import bulkup

        @bulkup.updater(query=lambda client: client.query())
        def every(entity):
            return bulkup.delete(entity)
        """,
    )
    (here.folder / "bulkup.toml").unlink()
    assert here.bulkup("run", "all.py").code == 0
    assert values(client) == {}
    assert len(approvals(client)) == 1
    assert len(list(client.query(kind=RUN_KIND).fetch())) == 1


def test_an_approved_run_is_undone_without_a_plan(here: Shell, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    plan(here)
    approve(here)
    assert here.bulkup("run", "bump.py").code == 0
    (run_id,) = here.runs()
    stopped = here.bulkup("undo", run_id, "--limit", "2", "--batch-size", "1", "--yes")
    assert stopped.code == Exit.LIMIT, stopped
    assert here.bulkup("resume", "--yes").code == 0
    assert set(values(client).values()) == {0}


def test_what_takes_back_needs_no_plan(tmp_path: Path) -> None:
    """Nobody should have to wait for it. Such updaters are bulkup's own, in its package `runs`."""
    own = type("Undo", (Updater,), {"__module__": "bulkup.runs.undo"})
    built_in = type("Put", (BulkPut,), {"__module__": "bulkup.authoring.updater"})
    users = type("Undo", (Updater,), {"__module__": "bulkup_runs.undo"})
    context = RunContext(
        Options(), tmp_path, print, asks_for_approval=lambda info: f"target {info.project}"
    )
    asked = [asks_for_approval(context, one(), TargetInfo("x")) for one in (own, built_in, users)]
    assert asked == [None, "target x", "target x"]


def test_a_flag_that_is_none_is_refused(here: Shell) -> None:
    here.write("bulkup.toml", "[targets.prod]\nproject = 'x'\nrequire_approval = 'yes'\n")
    here.bulkup("run", "bump.py").fails(
        Exit.USAGE, "targets.prod.require_approval", "true or false"
    )
    here.write("bulkup.toml", CONFIG.format(project="x"))
    assert "asks for an approved plan" in here.bulkup("config").out
