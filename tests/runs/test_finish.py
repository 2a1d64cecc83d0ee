"""A run whose `finish` raises, or whose successor cannot begin, is not finished: whoever resumes it
calls `finish` again, and handles no entity again."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

import bulkup
from bulkup.core.errors import Exit
from bulkup.core.events import Event, RunStarted
from bulkup.core.model import RunState
from bulkup.migrations.lock import LOCK_ID
from tests.cli.shell import Shell, markers, seed, values
from tests.conftest import Server
from tests.namespaces.conftest import Tenants, make_tenants

pytestmark = pytest.mark.sampled(9)

COUNT = 7

HEAD = """
    import os, pathlib, signal
    import bulkup
"""

SECOND = """
    class Second(bulkup.Updater):
        word: str = bulkup.param("b")

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            entity["said"] = entity.get("said", "") + self.word
            self.put(entity)
"""

FIRST = """
    class First(bulkup.Updater):
        '''Count up the odd ones; leave the others alone.'''

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            with open("handled.txt", "a") as file:
                print(entity.key.id, file=file)
            if entity.key.id % 2:
                entity["n"] += 1
                self.put(entity)

        def finish(self, success, report):
            with open("finishes.txt", "a") as file:
                print(success, report.counts.handled, report.counts.puts, file=file)
            {finish}
"""

GOOD = "self.then(Second, word='b')"

FAULTS = {
    "raises": "raise ValueError('no disk')",
    "exits": "raise SystemExit(3)",
    "then_twice": "self.then(Second); self.then(Second)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "typo": "self.then(Second, wrod='b')",
    "no_file": "self.then('no_such_file.py')",
    "no_module": "self.then('no_such_package.module:Name')",
    "does_not_load": "self.then('broken.py')",
    "no_updater": "self.then(5)",
}


def write(shell: Shell, finish: str) -> None:
    shell.write("twice.py", HEAD + SECOND + FIRST.format(finish=finish))
    shell.write("broken.py", "1 / 0\n")


def project(folder: Path, server: Server, finish: str) -> Shell:
    shell = Shell(folder, server)
    write(shell, finish)
    return shell


def lines(shell: Shell, name: str) -> list[str]:
    return (shell.folder / name).read_text().split("\n")[:-1]


def is_done_once(shell: Shell, client: datastore.Client, finishes: int) -> None:
    assert values(client) == {i: i % 2 for i in range(1, COUNT + 1)}
    assert set(values(client, name="said").values()) == {"b"}
    assert lines(shell, "handled.txt") == [str(i) for i in range(1, COUNT + 1)]
    assert lines(shell, "finishes.txt") == [f"True {COUNT} 4"] * finishes
    runs = list(client.query(kind="BulkupRun").fetch())
    assert [run["state"] for run in runs if run.key.name != LOCK_ID] == ["finished", "finished"]
    assert list(client.query(kind="BulkupClaim").fetch()) == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_finish_that_failed_no_entity_is_handled_again(
    tmp_path: Path, embedded: Server, fault: str
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS[fault])
    again = ("run", "twice.py:First") if fault in ("exits", "typo", "killed") else ("resume",)
    for _ in range(2):
        result = shell.bulkup("run", "twice.py:First", "--batch-size", "3")
        assert result.code == (-9 if fault == "killed" else Exit.FAILED), result
    write(shell, GOOD)
    result = shell.bulkup(*again)
    assert result.code == 0, result
    is_done_once(shell, client, finishes=3)


def test_the_report_says_what_happened_and_what_to_type(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS["typo"])
    result = shell.bulkup("run", "twice.py:First")
    (run_id,) = shell.runs()
    for words in ("every entity is done", "successor of First cannot begin", "wrod", "word"):
        assert words in result.out, result.out
    assert f"bulkup resume {run_id}" in result.out
    assert "handles no entity again" in result.out
    assert "entities that are left" not in result.out
    shown = shell.bulkup("show", run_id)
    assert "every entity is done" in shown.out
    assert "handles no entity again" in shown.out
    (row,) = shell.bulkup("list", "--json").lines
    assert row["state"] == "failed"


def test_what_finish_raised_is_shown_with_the_users_own_lines(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS["raises"])
    result = shell.bulkup("run", "twice.py:First", "--json")
    assert result.code == Exit.FAILED
    summary = result.summary
    assert (summary["state"], summary["exit_code"], summary["success"]) == ("failed", 1, False)
    assert "First.finish raised ValueError: no disk" in summary["reason"]
    assert any("raise ValueError('no disk')" in warning for warning in summary["warnings"])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("options", [(), ("--no-record",), ("--processes", "2")])
def test_a_finish_that_failed_is_called_again_without_the_state_directory(
    tmp_path: Path, server: Server, options: tuple[str, ...]
) -> None:
    """Only the run record says that all is done: half of the entities have left no trace."""
    client = seed(server, COUNT)
    shell = project(tmp_path, server, FAULTS["raises"])
    small = ("run", "twice.py:First", "--batch-size", "3", *options)
    assert shell.bulkup(*small).code == Exit.FAILED
    (run_id,) = shell.runs()
    shutil.rmtree(shell.state_dir)
    assert shell.bulkup(*small).code == Exit.FAILED
    assert shell.runs() == [run_id]
    write(shell, "pass")
    result = shell.bulkup(*small, "--json")
    assert result.code == 0, result
    assert (result.summary["run_id"], result.summary["counts"]["handled"]) == (run_id, COUNT)
    assert values(client) == {i: i % 2 for i in range(1, COUNT + 1)}
    assert sorted(lines(shell, "handled.txt")) == [str(i) for i in range(1, COUNT + 1)]
    assert lines(shell, "finishes.txt") == [f"True {COUNT} 4"] * 3


def test_a_run_without_a_record_is_resumed_from_its_folder(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS["raises"])
    assert shell.bulkup("run", "twice.py:First").code == Exit.FAILED
    assert shell.bulkup("resume").code == Exit.FAILED
    client.delete_multi([run.key for run in client.query(kind="BulkupRun").fetch()])
    write(shell, GOOD)
    assert shell.bulkup("resume").code == 0
    is_done_once(shell, client, finishes=3)


def test_failures_within_the_budget_are_reported_by_the_runner_that_ends_the_run(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, "if not os.path.exists('fixed'): raise ValueError()")
    path = shell.folder / "twice.py"
    path.write_text(
        path.read_text().replace(
            'with open("handled', 'entity.key.id == 3 and 1 / 0\n        with open("handled'
        )
    )
    small = ("run", "twice.py:First", "--max-failures", "2", "--json")
    failed = shell.bulkup(*small)
    assert (failed.code, failed.summary["counts"]["failed"]) == (Exit.FAILED, 1)
    shutil.rmtree(shell.state_dir)
    (shell.folder / "fixed").touch()
    result = shell.bulkup(*small)
    assert (result.code, result.summary["counts"]["failed"]) == (Exit.DONE_WITH_FAILURES, 1)
    (failure,) = result.summary["failures"]
    assert failure["key"] == "Key('Item', 3)"


class Unusual(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize(
    "error", [Unusual("odd"), asyncio.CancelledError(), GeneratorExit(), MemoryError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_program_that_calls_run_again_calls_finish_again(
    tmp_path: Path, embedded: Server, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    client = seed(embedded, COUNT)
    raised: list[BaseException] = [error]
    finished: list[bool] = []

    class Count(bulkup.Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Item")

        def handle_entity(self, entity: datastore.Entity) -> None:
            entity["n"] += 1
            self.put(entity)

        def finish(self, success: bool, report: bulkup.Report) -> None:
            finished.append(success)
            if raised:
                raise raised.pop()

    events: list[Event] = []

    def run() -> bulkup.Report:
        return bulkup.run(Count, project=embedded.project, state_dir=tmp_path / "state",
                          listener=events.append)  # fmt: skip

    first = run()
    assert (first.state, first.exit_code, first.success) == (RunState.FAILED, Exit.FAILED, False)
    assert "Count.finish raised" in first.reason
    assert first.next_command
    second = run()
    assert (second.run_id, second.state, second.exit_code) == (first.run_id, RunState.FINISHED, 0)
    assert second.counts.handled == COUNT
    started = [event for event in events if isinstance(event, RunStarted)]
    assert [event.already.handled for event in started] == [0, COUNT]
    assert finished == [True, True]
    assert set(values(client).values()) == {1}
    assert run().run_id != first.run_id


def test_a_run_on_a_moving_query_is_resumed_anywhere_once_all_is_done(
    tmp_path: Path, embedded: Server
) -> None:
    """Only its own state knows which entities are done, but none is left to be read."""
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS["raises"])
    path = shell.folder / "twice.py"
    ordered = 'query(kind="Item", order=["n"])'
    path.write_text(path.read_text().replace('query(kind="Item")', ordered))
    assert shell.bulkup("run", "twice.py:First").code == Exit.FAILED
    shutil.rmtree(shell.state_dir)
    path.write_text(path.read_text().replace(FAULTS["raises"], "pass"))
    result = shell.bulkup("run", "twice.py:First")
    assert result.code == 0, result
    assert values(client) == {i: i % 2 for i in range(1, COUNT + 1)}


def test_a_chain_whose_second_finish_raises_continues_there(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded, GOOD)
    path = shell.folder / "twice.py"
    hook = "\n    def finish(self, success, report): pathlib.Path('fixed').read_text()\n"
    path.write_text(path.read_text().replace("\nclass First", f"{hook}\nclass First"))
    for again in (("run", "twice.py:First"), ("resume",)):
        assert shell.bulkup(*again).code == Exit.FAILED
    (shell.folder / "fixed").touch()
    assert shell.bulkup("run", "twice.py:First").code == 0
    is_done_once(shell, client, finishes=1)
    assert markers(embedded) == []


def test_a_migration_whose_finish_failed_is_not_applied_until_it_succeeds(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = Shell(tmp_path, embedded)

    def write_migration(finish: str) -> None:
        shell.write("updaters/0001_first.py", HEAD + FIRST.format(finish=finish))

    write_migration("raise ValueError('no disk')")
    shell.write("updaters/0002_second.py", HEAD + SECOND)
    for _ in range(2):
        result = shell.bulkup("migrate", "--json")
        assert result.code == Exit.FAILED
        (ended,) = result.of_type("migrate")
        assert (ended["applied"], ended["stopped_at"]) == ([], "0001_first")
        assert "First.finish raised ValueError: no disk" in ended["reason"]
        assert shell.bulkup("status", "--check").code == Exit.PENDING
    shutil.rmtree(shell.state_dir)
    write_migration("pass")
    result = shell.bulkup("migrate", "--json")
    assert result.code == 0, result
    assert result.of_type("migrate")[0]["applied"] == ["0001_first", "0002_second"]
    is_done_once(shell, client, finishes=3)


def test_a_group_continues_in_the_namespace_whose_finish_failed(
    tmp_path: Path, embedded: Server
) -> None:
    tenants: Tenants = make_tenants(tmp_path, embedded)
    path = tenants.shell.folder / "bump.py"
    path.write_text(
        path.read_text()
        + "\n    def finish(self, success, report):\n"
        + "        if self.client.namespace == 'tenant-1' and 'FIXED' not in os.environ: 1 / 0\n"
    )
    every = ("run", "bump.py", "--all-namespaces")
    for _ in range(2):
        result = tenants.shell.bulkup(*every)
        assert result.code == Exit.FAILED
        assert "tenant-1: every entity is done, but Bump.finish raised" in result.out
        assert tenants.values("tenant-1", "tenant-2") == {"tenant-1": {1}, "tenant-2": {0}}
    assert tenants.shell.bulkup(*every, env={"FIXED": "1"}).code == 0
    tenants.assert_each_done()


def test_a_finish_that_raises_is_the_headline_whatever_the_budget_of_the_resume(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, "raise ValueError('no disk')")
    path = shell.folder / "twice.py"
    path.write_text(
        path.read_text().replace(
            'with open("handled', 'entity.key.id % 2 and 1 / 0\n        with open("handled'
        )
    )
    assert shell.bulkup("run", "twice.py:First", "--max-failures", "5").code == Exit.FAILED
    path.write_text(path.read_text() + "\n# changed\n")
    again = shell.bulkup("resume", "--max-failures", "1")
    shown = shell.bulkup("show")
    for out in (again.out, shown.out):
        assert out.startswith(
            "Failed: every entity is done, but First.finish raised ValueError: no disk"
        ), out
        assert "allowed)" not in out
        assert "--max-failures N" not in out
        assert "handles no entity again" in out
    assert again.code == Exit.FAILED
    assert "get the new code" not in again.err  # there are none that could get it


def test_what_finish_raised_is_shown_once_in_lines(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS["raises"])
    result = shell.bulkup("run", "twice.py:First")
    both = result.out + result.err
    assert "\\n" not in both, both
    assert both.count("Traceback (most recent call last):") == 1
    assert "\n      Traceback (most recent call last):\n" in result.out
    (saved,) = shell.folder.glob(".bulkup/**/report.txt")
    assert "\n      Traceback (most recent call last):\n" in saved.read_text()


def test_log_in_finish_says_what_to_use_instead(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, "self.log('done')")
    result = shell.bulkup("run", "twice.py:First", "--json")
    assert result.code == Exit.FAILED
    reason = result.summary["reason"]
    assert "not in finish: " in reason
    assert "print" in reason
    assert "bulkup.testing" not in reason


def test_in_many_namespaces_too_what_finish_raised_is_shown_once_in_lines(
    tmp_path: Path, embedded: Server
) -> None:
    tenants = make_tenants(tmp_path, embedded)
    write(tenants.shell, FAULTS["raises"])
    result = tenants.shell.bulkup("run", "twice.py:First", "--all-namespaces")
    both = result.out + result.err
    assert result.code == Exit.FAILED
    assert "\\n" not in both, both
    assert both.count("Traceback (most recent call last):") == 1
    assert "\n      Traceback (most recent call last):\n" in result.out


def test_a_run_command_that_only_calls_finish_does_not_speak_of_remaining_entities(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded, FAULTS["raises"])
    assert shell.bulkup("run", "twice.py:First").code == Exit.FAILED
    write(shell, "pass")
    result = shell.bulkup("run", "twice.py:First")
    assert result.code == 0
    assert "resuming run" in result.err
    assert "the new code" not in result.err
