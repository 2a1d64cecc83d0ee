"""An updater's `check_before` and `check_after`: they only read, and a run that they object to does
not begin, or does not end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

import bulkup
from bulkup.core.errors import Exit, UpdaterError
from bulkup.core.model import RunState
from tests.cli.shell import Shell, contents, markers, seed, user_data, values
from tests.conftest import Server
from tests.namespaces.conftest import NAMESPACES, make_tenants

pytestmark = pytest.mark.sampled(9)

COUNT = 5

CLASS = """
    import os
    import bulkup
    from google.cloud import datastore

    class Count(bulkup.Updater):
        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            with open("handled.txt", "a") as file:
                print(entity.key.id, file=file)
            entity["n"] += 1
            self.put(entity)

        def {name}(self, client):
            with open("checks.txt", "a") as file:
                print("{name}", file=file)
            {body}

        def finish(self, success, report):
            with open("finishes.txt", "a") as file:
                print(success, file=file)
"""

FUNCTION = """
    import os
    import bulkup
    from google.cloud import datastore

    def check(client):
        with open("checks.txt", "a") as file:
            print("{name}", file=file)
        {body}

    @bulkup.updater(kind="Item", {name}=check)
    def count(entity):
        with open("handled.txt", "a") as file:
            print(entity.key.id, file=file)
        entity["n"] += 1
        return entity
"""

FORMS = pytest.mark.parametrize("form", [CLASS, FUNCTION], ids=["class", "function"])


def project(folder: Path, server: Server, form: str, name: str, body: str) -> Shell:
    shell = Shell(folder, server)
    shell.write("count.py", form.format(name=name, body=body))
    return shell


def lines(shell: Shell, name: str) -> list[str]:
    path = shell.folder / name
    return path.read_text().split("\n")[:-1] if path.exists() else []


OBJECTIONS = {
    "raises": ("raise ValueError('3 have no name')", "raised ValueError: 3 have no name"),
    "false": ("return False", "returned False"),
    "text": ("return '3 have no name'", "failed: 3 have no name"),
    "empty": ("return ''", "returned an empty string; return nothing or True if it holds"),
    "list": ("return []", "returned a list; return nothing or True if it holds"),
    "exits": ("raise SystemExit(0)", "raised SystemExit: 0"),
    "writes": (
        "client.put(datastore.Entity(client.key('Item', 1)))",
        "raised WriteInDryRunError: a check only reads",
    ),
    "own_client": (
        "datastore.Client().delete(client.key('Item', 1))",
        "raised WriteInDryRunError: nothing is written now",
    ),
}


@pytest.mark.one_in(4)
@FORMS
@pytest.mark.parametrize("objection", OBJECTIONS)
def test_a_run_whose_check_before_does_not_hold_leaves_no_trace(
    tmp_path: Path, embedded: Server, form: str, objection: str
) -> None:
    seed(embedded, COUNT)
    body, says = OBJECTIONS[objection]
    shell = project(tmp_path, embedded, form, "check_before", body)
    before = contents(embedded)
    for dry in ((), ("-n",)):
        result = shell.bulkup("run", "count.py", *dry)
        result.fails(Exit.FAILED, "check_before of ", says, "nothing was started")
    assert contents(embedded) == before
    assert shell.runs() == []
    assert lines(shell, "handled.txt") == []


@FORMS
@pytest.mark.parametrize(
    "body", ["pass", "return True", "assert client.get(client.key('Item', 1))"]
)
def test_a_check_before_that_holds_lets_the_run_begin(
    tmp_path: Path, embedded: Server, form: str, body: str
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded, form, "check_before", body)
    assert shell.bulkup("run", "count.py").code == 0
    assert set(values(client).values()) == {1}
    assert lines(shell, "checks.txt") == ["check_before"]


READING = """
    import bulkup

    class Count(bulkup.Updater):
        def get_query(self):
            return self.client.query(kind="Item")

        def check_before(self, client):
            self.reads(client, 0)

        def handle_entity(self, entity):
            entity["n"] += 1
            self.put(entity)

        def check_after(self, client):
            self.reads(client, 1)

        def reads(self, client, n):
            assert self.client is client
            found = list(client.query(kind="Item").fetch())
            assert [entity["n"] for entity in found] == [n] * 5, found
            assert client.get(found[0].key) == found[0]
            try:
                self.client.delete(found[0].key)
            except RuntimeError:
                print(n, file=open("refused.txt", "a"))

        def finish(self, success, report):
            self.client.delete(self.client.key("Item", 1))
"""


def test_checks_read_what_is_there_and_self_client_only_reads_too(
    tmp_path: Path, server: Server
) -> None:
    client = seed(server, COUNT)
    shell = Shell(tmp_path, server)
    shell.write("count.py", READING)
    result = shell.bulkup("run", "count.py")
    assert result.code == 0, result
    assert lines(shell, "refused.txt") == ["0", "1"]
    assert values(client) == dict.fromkeys(range(2, COUNT + 1), 1)  # finish may write


@pytest.mark.one_in(4)
@FORMS
@pytest.mark.parametrize("objection", OBJECTIONS)
def test_a_run_whose_check_after_does_not_hold_fails_and_resume_checks_again(
    tmp_path: Path, embedded: Server, form: str, objection: str
) -> None:
    client = seed(embedded, COUNT)
    body, says = OBJECTIONS[objection]
    shell = project(tmp_path, embedded, form, "check_after", body)
    result = shell.bulkup("run", "count.py", "--json")
    assert result.code == Exit.FAILED, result
    assert result.summary["state"] == "failed"
    assert "every entity is done, but check_after of " in result.summary["reason"]
    assert says in result.summary["reason"]
    assert set(values(client).values()) == {1}
    again = shell.bulkup("resume")
    assert again.code == Exit.FAILED
    assert "handles no entity again" in again.out
    shell.write("count.py", form.format(name="check_after", body="return True"))
    fixed = shell.bulkup("resume", "--json")
    assert (fixed.code, fixed.summary["counts"]["handled"]) == (0, COUNT), fixed
    assert lines(shell, "checks.txt") == ["check_after"] * 3
    assert lines(shell, "handled.txt") == [str(i) for i in range(1, COUNT + 1)]
    if form is CLASS:
        assert lines(shell, "finishes.txt") == ["False", "False", "True"]
    assert markers(embedded) == []


def test_what_check_after_raised_is_shown_once_with_the_users_own_lines(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, CLASS, "check_after", OBJECTIONS["raises"][0])
    result = shell.bulkup("run", "count.py")
    assert result.code == Exit.FAILED
    assert result.out.startswith("Failed: every entity is done, but check_after of Count raised")
    both = result.out + result.err
    assert both.count("Traceback (most recent call last):") == 1
    assert "raise ValueError('3 have no name')" in both


def test_a_check_after_that_failed_is_called_again_without_the_state_directory(
    tmp_path: Path, server: Server
) -> None:
    client = seed(server, COUNT)
    shell = project(
        tmp_path, server, CLASS, "check_after", "return os.path.exists('fixed') or 'not yet'"
    )
    assert shell.bulkup("run", "count.py").code == Exit.FAILED
    (run_id,) = shell.runs()
    shutil.rmtree(shell.state_dir)
    (shell.folder / "fixed").touch()
    result = shell.bulkup("run", "count.py", "--json")
    assert (result.code, result.summary["run_id"]) == (0, run_id), result
    assert set(values(client).values()) == {1}


def test_a_plan_warns_of_a_check_before_that_does_not_hold(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, CLASS, "check_before", OBJECTIONS["text"][0])
    before = contents(embedded)
    result = shell.bulkup("plan", "count.py", "--json")
    assert result.code == 0, result
    (planned,) = result.of_type("plan")
    (warning,) = [w for w in planned["warnings"] if "check_before" in w["message"]]
    assert warning["message"] == (
        "check_before of Count failed: 3 have no name; until it holds, no run starts"
    )
    assert contents(embedded) == before


def test_a_dry_run_does_not_call_check_after(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, CLASS, "check_after", "return False")
    assert shell.bulkup("run", "-n", "count.py").code == 0
    assert lines(shell, "checks.txt") == []


def test_a_resumed_run_does_not_call_check_before_again(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    body = "assert {e['n'] for e in client.query(kind='Item').fetch()} == {0}"
    shell = project(tmp_path, embedded, CLASS, "check_before", body)
    stopped = shell.bulkup("run", "count.py", "--limit", "2", "--batch-size", "1")
    assert stopped.code == Exit.LIMIT
    assert shell.bulkup("run", "count.py").code == 0
    assert set(values(client).values()) == {1}
    assert lines(shell, "checks.txt") == ["check_before"]


def test_put_then_and_log_in_a_check_say_where_they_belong(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    for body in ("self.put()", "self.log('x')", "self.then('x.py')"):
        shell = project(tmp_path, embedded, CLASS, "check_before", body)
        shell.bulkup("run", "count.py").fails(Exit.FAILED, "RuntimeError", "not in check_before")


def test_checks_that_cannot_work_are_refused_before_anything_else(
    tmp_path: Path, embedded: Server
) -> None:
    shell = Shell(tmp_path, embedded)
    method = CLASS.format(name="check_before", body="pass")
    shell.write("a.py", method.replace("def check_before", "async def check_before"))
    shell.bulkup("run", "a.py").fails(Exit.USAGE, "check_before", "async")
    function = FUNCTION.format(name="check_after", body="pass")
    shell.write("b.py", function.replace("def check(", "async def check("))
    shell.bulkup("run", "b.py").fails(Exit.USAGE, "check_after", "async")
    shell.write("c.py", function.replace("=check)", "=5)"))
    shell.bulkup("run", "c.py").fails(Exit.USAGE, "check_after= takes a function")
    shell.write("d.py", method + "\n        check_after = 5\n")
    shell.bulkup("run", "d.py").fails(Exit.USAGE, "check_after", "cannot be called")


def test_a_migration_whose_check_after_failed_is_not_applied_until_it_holds(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = Shell(tmp_path, embedded)
    form = CLASS.format(name="check_after", body="return os.path.exists('fixed') or 'not yet'")
    shell.write("updaters/0001_count.py", form)
    for _ in range(2):
        result = shell.bulkup("migrate", "--json")
        assert result.code == Exit.FAILED
        (ended,) = result.of_type("migrate")
        assert (ended["applied"], ended["stopped_at"]) == ([], "0001_count")
        assert "check_after of Count failed: not yet" in ended["reason"]
        assert shell.bulkup("status", "--check").code == Exit.PENDING
    (shell.folder / "fixed").touch()
    assert shell.bulkup("migrate").code == 0
    assert shell.bulkup("status", "--check").code == 0
    assert set(values(client).values()) == {1}


def test_a_migration_whose_check_before_failed_is_not_started(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = Shell(tmp_path, embedded)
    form = CLASS.format(name="check_before", body="return 'not yet'")
    shell.write("updaters/0001_count.py", form)
    before = user_data(embedded)
    result = shell.bulkup("migrate", "-q")
    result.fails(Exit.FAILED, "check_before of Count failed: not yet; nothing was started")
    assert user_data(embedded) == before
    (row,) = shell.bulkup("status", "--json").of_type("migration")
    assert row["standing"] == "pending"
    preview = shell.bulkup("migrate", "--dry-run")
    assert preview.code == Exit.FAILED
    assert "check_before of Count failed" in preview.out
    shell.write("updaters/0001_count.py", CLASS.format(name="check_before", body="pass"))
    assert shell.bulkup("migrate").code == 0
    assert set(values(client).values()) == {1}


def test_checks_are_called_in_each_namespace_with_its_own_client(
    tmp_path: Path, embedded: Server
) -> None:
    tenants = make_tenants(tmp_path, embedded)
    form = CLASS.format(
        name="check_after",
        body="if client.namespace == 'tenant-1' and 'FIXED' not in os.environ: return 'not yet'",
    )
    tenants.shell.write("count.py", form)
    every = ("run", "count.py", "--all-namespaces")
    for _ in range(2):
        result = tenants.shell.bulkup(*every)
        assert result.code == Exit.FAILED
        assert "tenant-1: every entity is done, but check_after of Count failed" in result.out
    assert tenants.shell.bulkup(*every, env={"FIXED": "1"}).code == 0
    tenants.assert_each_done()
    assert lines(tenants.shell, "checks.txt") == ["check_after"] * (len(NAMESPACES) + 2)


def test_a_chain_checks_each_of_its_runs_when_its_turn_comes(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = Shell(tmp_path, embedded)
    first = CLASS.format(name="check_after", body="pass").replace(
        "def get_query", "then = 'second.py'\n\n        def get_query"
    )
    shell.write("first.py", first)
    second = (
        "assert {e['n'] for e in client.query(kind='Item').fetch()} == {1}\n"
        "            return os.path.exists('fixed') or 'not yet'"
    )
    shell.write("second.py", CLASS.format(name="check_before", body=second))
    result = shell.bulkup("run", "first.py")
    assert result.code == Exit.FAILED
    assert "check_before of Count failed: not yet; nothing was started" in result.err
    assert set(values(client).values()) == {1}
    assert shell.bulkup("resume").code == Exit.FAILED
    (shell.folder / "fixed").touch()
    assert shell.bulkup("resume").code == 0
    assert set(values(client).values()) == {2}
    assert lines(shell, "checks.txt") == ["check_after"] + ["check_before"] * 3


def test_a_program_gets_what_its_checks_say(
    tmp_path: Path, embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    client = seed(embedded, COUNT)
    objections: list[Any] = ["after", "before"]

    def check(client: datastore.Client) -> Any:
        return objections.pop() if objections else None

    @bulkup.updater(kind="Item", check_before=check, check_after=check)
    def count(entity: datastore.Entity) -> datastore.Entity:
        entity["n"] += 1
        return entity

    def run() -> bulkup.Report:
        return bulkup.run(count, project=embedded.project, state_dir=tmp_path / "state")

    with pytest.raises(UpdaterError, match="check_before of count failed: before"):
        run()
    objections[:] = ["after", True]
    failed = run()
    assert (failed.state, failed.exit_code) == (RunState.FAILED, Exit.FAILED)
    assert "check_after of count failed: after" in failed.reason
    done = run()
    assert (done.run_id, done.success) == (failed.run_id, True)
    assert set(values(client).values()) == {1}
