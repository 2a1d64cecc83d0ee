"""A run that is finished in Datastore is reported once, whoever was killed, and whoever waited."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

from bulkup.core.errors import Exit
from tests.cli.shell import Result, Shell, ended, markers, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

COUNT = 5

BUMP = """
    import os, time
    import bulkup

    class Bump(bulkup.Updater):
        '''Count up; 3 fails if it was asked to.'''
        max_failures = 1
        {then}

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            if "HOLD" in os.environ and entity.key.id == 1:
                open("started", "w").close()
                while not os.path.exists("go"):
                    time.sleep(0.01)
            if "FAIL" in os.environ and entity.key.id == 3:
                raise ValueError("not today")
            entity["n"] += 1
            self.put(entity)
"""

SECOND = """
    import bulkup

    class Second(bulkup.BulkPut):
        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            entity["second"] = entity.get("second", 0) + 1
            self.put(entity)
"""

DIE_AT = """
    import os, signal
    from bulkup.cli.session import RunSession
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.run_records import Ledger

    def dying(owner, name, when):
        real = getattr(owner, name)
        def called(self, *args, **options):
            result = real(self, *args, **options)
            if when(args, options):
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        setattr(owner, name, called)

    points = {{
        "recorded": (Ledger, "write", lambda args, options: options.get("over")),
        "forgotten": (Ledger, "remove", lambda args, options: True),
        "noted": (Checkpoint, "end_work", lambda args, options: True),
        "saved": (RunSession, "save", lambda args, options: True),
    }}
    dying(*points[{at!r}])
    from bulkup.cli import call
    raise SystemExit(call({args!r}))
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    return make(tmp_path, embedded)


def make(folder: Path, server: Server, then: str = "") -> Shell:
    folder.mkdir(exist_ok=True)
    shell = Shell(folder, server)
    shell.write("bump.py", BUMP.format(then=then))
    shell.write("second.py", SECOND)
    return shell


@pytest.fixture
def items(embedded: Server) -> datastore.Client:
    return seed(embedded, COUNT)


def killed(shell: Shell, at: str, *args: str) -> None:
    assert shell.script(DIE_AT.format(at=at, args=[*args])).code == -9


def is_the_report(result: Result, run_id: str) -> None:
    summary = result.summary
    assert result.code == summary["exit_code"] == Exit.DONE_WITH_FAILURES, result
    assert (summary["run_id"], summary["state"], summary["success"]) == (run_id, "finished", True)
    assert (summary["counts"]["handled"], summary["counts"]["failed"]) == (COUNT, 1)
    assert [failure["key"] for failure in summary["failures"]] == ["Key('Item', 3)"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("at", "options"),
    [
        ("recorded", ()), ("noted", ()), ("saved", ()),
        ("recorded", ("--no-record",)), ("forgotten", ("--no-record",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("again", ["run", "resume"])
def test_a_run_killed_after_its_end_is_reported_by_the_next_command(
    shell: Shell, items: datastore.Client, at: str, options: tuple[str, ...], again: str
) -> None:
    shell.environment["FAIL"] = "1"
    command = ("run", "bump.py", *options)
    killed(shell, at, *command)
    (run_id,) = shell.runs()
    result = shell.bulkup(*(command if again == "run" else ("resume",)), "--json")
    is_the_report(result, run_id)
    assert "killed before it could report" in result.of_type("warning")[-1]["message"]
    assert values(items) == {1: 1, 2: 1, 3: 0, 4: 1, 5: 1}
    assert (shell.state_dir / run_id / "report.html").exists()
    (row,) = shell.bulkup("list", "--json").lines
    assert row["state"] == "finished"
    shell.bulkup("resume").fails(10, "nothing to resume")
    shell.bulkup("resume", run_id).fails(10, f"run {run_id} is finished")
    assert shell.bulkup(*command).code == Exit.DONE_WITH_FAILURES  # a new run, as ever
    assert len(shell.runs()) == 2


def test_a_report_is_delivered_without_the_datastore_that_the_run_was_on(
    shell: Shell, items: datastore.Client
) -> None:
    killed(shell, "noted", "run", "bump.py")
    shell.environment["DATASTORE_EMULATOR_HOST"] = "127.0.0.1:1"
    result = shell.bulkup("resume", "--json")
    assert (result.code, result.summary["counts"]["handled"]) == (0, COUNT), result


def test_a_new_run_does_not_wait_for_the_report_of_the_old_one(
    shell: Shell, items: datastore.Client
) -> None:
    killed(shell, "recorded", "run", "bump.py")
    assert shell.bulkup("run", "bump.py", "--new").code == 0
    assert shell.bulkup("run", "bump.py").code == 0
    assert values(items) == dict.fromkeys(range(1, COUNT + 1), 3)


def test_a_run_that_another_machine_has_finished_is_not_reported_here(
    shell: Shell, items: datastore.Client, embedded: Server
) -> None:
    assert shell.bulkup("run", "bump.py", "--limit", "2").code == 75
    other = make(shell.folder / "other", embedded)
    assert other.bulkup("run", "bump.py").code == 0
    shell.bulkup("resume").fails(10, "is finished (by")


def test_a_program_gets_the_report_of_the_run_that_was_killed(
    shell: Shell, items: datastore.Client
) -> None:
    killed(shell, "recorded", "run", "bump.py")
    result = shell.script(
        """
        import bulkup
        for _ in range(2):
            report = bulkup.run("bump.py")
            print(report.run_id, report.state, report.exit_code, report.counts.handled)
        """
    )
    first, second = result.out.splitlines()
    assert first == f"{shell.runs()[0]} finished 0 {COUNT}"
    assert second == f"{shell.runs()[1]} finished 0 {COUNT}"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("at", ["recorded", "noted", "saved"])
@pytest.mark.parametrize("again", [("run", "bump.py"), ("resume",)])
def test_a_chain_continues_after_the_report_that_a_kill_has_kept_back(
    tmp_path: Path, embedded: Server, items: datastore.Client, at: str, again: tuple[str, ...]
) -> None:
    shell = make(tmp_path, embedded, then='then = "second.py"')
    killed(shell, at, "run", "bump.py")
    result = shell.bulkup(*again, "--json")
    assert result.code == 0, result
    assert [s["updater"] for s in result.of_type("summary")] == ["Bump", "Second"]
    assert values(items) == dict.fromkeys(range(1, COUNT + 1), 1)
    assert values(items, name="second") == dict.fromkeys(range(1, COUNT + 1), 1)
    shell.bulkup("resume").fails(10, "nothing to resume")


@pytest.mark.parametrize("named", [True, False])
def test_resume_begins_the_successor_that_has_no_folder_yet(
    tmp_path: Path, embedded: Server, items: datastore.Client, named: bool
) -> None:
    shell = make(tmp_path, embedded, then='then = "second.py"')
    path = shell.folder / "second.py"
    source = path.read_text()
    # Valid when it is recorded, and not when it begins.
    path.write_text(source + "\nimport os\nif os.path.exists('gone'): 1 / 0\n")
    bump = shell.folder / "bump.py"
    bump.write_text(
        bump.read_text() + "\n    def finish(self, success, report): open('gone', 'w')\n"
    )
    before = shell.bulkup("run", "bump.py", env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert before.code == 1, before
    path.write_text(source)
    names = shell.runs()[:1] if named else []
    result = shell.bulkup("resume", *names, "--json")
    assert result.code == 0, result
    assert values(items) == dict.fromkeys(range(1, COUNT + 1), 1)
    assert values(items, name="second") == dict.fromkeys(range(1, COUNT + 1), 1)


@pytest.mark.parametrize("at", ["recorded", "noted"])
def test_a_migration_whose_process_was_killed_at_its_end_is_reported_by_the_next_one(
    shell: Shell, items: datastore.Client, at: str
) -> None:
    (shell.folder / "updaters").mkdir()
    (shell.folder / "bump.py").rename(shell.folder / "updaters/0001_bump.py")
    shell.environment["FAIL"] = "1"
    killed(shell, at, "migrate")
    (run_id,) = shell.runs()
    result = shell.bulkup("migrate", "--json")
    is_the_report(result, run_id)
    assert values(items) == {1: 1, 2: 1, 3: 0, 4: 1, 5: 1}
    again = shell.bulkup("migrate", "--json")
    assert (again.code, again.of_type("summary")) == (0, [])
    (row,) = shell.bulkup("list", "--json").lines
    assert row["state"] == "finished"


@pytest.mark.parametrize("at", ["recorded", "noted"])
def test_a_namespace_whose_process_was_killed_at_its_end_is_in_the_groups_report(
    shell: Shell, items: datastore.Client, at: str
) -> None:
    shell.environment["FAIL"] = "1"
    every = ("run", "bump.py", "--all-namespaces")
    killed(shell, at, *every)
    result = shell.bulkup(*every, "--json")
    assert result.code == Exit.DONE_WITH_FAILURES, result
    (group,) = result.of_type("group")
    assert (group["counts"]["handled"], group["counts"]["failed"]) == (COUNT, 1)
    assert [failure["key"] for failure in group["failures"]] == ["Key('Item', 3)"]
    assert values(items) == {1: 1, 2: 1, 3: 0, 4: 1, 5: 1}
    (row,) = shell.bulkup("list", "--json").lines
    assert row["state"] == "finished"
    shell.bulkup("resume").fails(10, "nothing to resume")


# --- who waits for a run that another process finishes ---

LISTENING = """
    from bulkup.cli.session import RunSession
    listen = RunSession.listen
    def listening(session, event):
        listen(session, event)
        if getattr(event, "kind", "") == "waiting":
            open({go!r}, "w").close()
    RunSession.listen = listening
    from bulkup.cli import call
    raise SystemExit(call({args!r}))
"""
"""The other process goes on once this one waits for it."""


def holding(shell: Shell, *args: str, **env: str) -> subprocess.Popen[str]:
    """A process that holds the run until somebody waits for it."""
    process = shell.begin(*args, env={"HOLD": "1", **env})
    deadline = time.monotonic() + 60
    while not (shell.folder / "started").exists():
        assert time.monotonic() < deadline, ended(process)
        time.sleep(0.01)
    return process


def waiting(shell: Shell, held_by: Shell, *args: str) -> Result:
    go = str(held_by.folder / "go")
    return shell.script(LISTENING.format(go=go, args=[*args, "--wait", "120s", "--json"]))


def says_so(result: Result) -> None:
    messages = [line["message"] for line in result.of_type("warning")]
    assert any("was finished by" in text or "is finished" in text for text in messages), messages


@pytest.mark.parametrize("again", [("run", "bump.py"), ("resume",)])
@pytest.mark.parametrize("options", [(), ("--no-record",)])
def test_a_process_that_waits_in_the_same_state_directory_ends_as_the_run_did(
    shell: Shell, items: datastore.Client, again: tuple[str, ...], options: tuple[str, ...]
) -> None:
    process = holding(shell, "run", "bump.py", *options, FAIL="1")
    result = waiting(shell, shell, *again)
    assert ended(process).code == Exit.DONE_WITH_FAILURES
    (run_id,) = shell.runs()
    is_the_report(result, run_id)
    says_so(result)
    assert values(items) == {1: 1, 2: 1, 3: 0, 4: 1, 5: 1}


@pytest.mark.parametrize("fails", [True, False])
def test_a_process_that_waits_on_another_machine_ends_as_the_run_did(
    shell: Shell, items: datastore.Client, embedded: Server, fails: bool
) -> None:
    other = make(shell.folder / "other", embedded)
    process = holding(shell, "run", "bump.py", **({"FAIL": "1"} if fails else {}))
    result = waiting(other, shell, "run", "bump.py")
    code = Exit.DONE_WITH_FAILURES if fails else Exit.DONE
    assert ended(process).code == result.code == code, result
    summary: dict[str, Any] = result.summary
    assert (summary["run_id"], summary["state"]) == (shell.runs()[0], "finished")
    assert (summary["counts"]["handled"], summary["counts"]["failed"]) == (COUNT, int(fails))
    says_so(result)
    assert other.runs() == []  # it has done nothing


def test_a_process_that_waits_for_a_chain_waits_for_all_of_it(
    tmp_path: Path, embedded: Server, items: datastore.Client
) -> None:
    first = make(tmp_path / "one", embedded, then='then = "second.py"')
    second = make(tmp_path / "two", embedded, then='then = "second.py"')
    process = holding(first, "run", "bump.py")
    result = waiting(second, first, "run", "bump.py")
    assert result.code == 0, result
    # Either may be the one that begins the successor. The first does not wait for the other.
    assert ended(process).code in (0, Exit.HELD)
    assert [s["updater"] for s in result.of_type("summary")] == ["Bump", "Second"]
    assert values(items) == dict.fromkeys(range(1, COUNT + 1), 1)
    assert values(items, name="second") == dict.fromkeys(range(1, COUNT + 1), 1)
    assert markers(embedded) == []


MIGRATING = """
    import bulkup.migrations.lock as lock
    from bulkup.core.events import Warned
    def warned(message, kind):
        open({go!r}, "w").close()
        return Warned(message, kind)
    lock.Warned = warned
    from bulkup.cli import call
    raise SystemExit(call(["migrate", "--wait", "120s", "--json"]))
"""


@pytest.mark.parametrize("fails", [True, False])
def test_a_process_that_waits_for_a_migration_ends_as_it_did(
    shell: Shell, items: datastore.Client, fails: bool
) -> None:
    (shell.folder / "updaters").mkdir()
    (shell.folder / "bump.py").rename(shell.folder / "updaters/0001_bump.py")
    process = holding(shell, "migrate", **({"FAIL": "1"} if fails else {}))
    result = shell.script(MIGRATING.format(go=str(shell.folder / "go")))
    code = Exit.DONE_WITH_FAILURES if fails else Exit.DONE
    assert ended(process).code == result.code == code, result
    (line,) = result.of_type("migrate")
    assert (line["applied"], line["left"]) == ([], [])
    assert "0001_bump was applied by" in result.of_type("warning")[-1]["message"]
    assert values(items) == {1: 1, 2: 1, 3: int(not fails), 4: 1, 5: 1}
