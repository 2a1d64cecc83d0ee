"""Work that was done before: it is said, and with --once it is not done again."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import BUMP, Shell, contents, ended, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

ONCE = BUMP.replace("step: int", "once = True\n    step: int")


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    return _shell(tmp_path, embedded)


def _shell(folder: Path, server: Server) -> Shell:
    folder.mkdir(exist_ok=True)
    shell = Shell(folder, server)
    shell.write("bump.py", BUMP)
    shell.write("once.py", ONCE)
    return shell


@pytest.fixture
def items(embedded: Server) -> datastore.Client:
    return seed(embedded, 5)


def counted(client: datastore.Client) -> set[int]:
    return set(values(client).values())


def test_work_done_before_is_named_and_done_again(shell: Shell, items: datastore.Client) -> None:
    first = shell.bulkup("run", "bump.py", "--json").summary
    again = shell.bulkup("run", "bump.py", "--json")
    assert again.code == 0
    (warning,) = again.of_type("warning")
    assert f"run {first['run_id']} finished the same work" in warning["message"]
    assert "seconds ago (5 entities)" in warning["message"].replace("second ago", "seconds ago")
    assert counted(items) == {2}
    dry = shell.bulkup("run", "bump.py", "-n")
    assert "finished the same work" in dry.err
    assert "finished the same work" not in shell.bulkup("run", "bump.py", "--new").err


def test_on_a_terminal_somebody_is_asked_before_work_is_done_again(
    shell: Shell, items: datastore.Client
) -> None:
    shell.bulkup("run", "bump.py")
    for words, answer, code, total in (((), "n", 130, 1), ((), "y", 0, 2), (("--yes",), "", 0, 3)):
        terminal, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "bulkup", "run", "bump.py", *words],
            cwd=shell.folder, env=shell.environment, stdin=theirs, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True, text=True,
        ) as process:  # fmt: skip
            os.write(terminal, f"{answer}\n".encode())
            _, err = process.communicate(timeout=300)
        os.close(theirs)
        os.close(terminal)
        assert ("Do it again?" in err) == (not words), err
        assert ("this run handles all entities again" in err) == bool(words), err
        assert process.returncode == code, err
        assert counted(items) == {total}


@pytest.mark.parametrize("words", [("bump.py", "--once"), ("once.py",)], ids=" ".join)
def test_once_does_nothing_on_any_machine_when_the_work_is_done(
    tmp_path: Path, server: Server, words: tuple[str, ...]
) -> None:
    client = seed(server, 5)
    one, other = _shell(tmp_path / "one", server), _shell(tmp_path / "other", server)
    run_id = one.bulkup("run", *words, "--json").summary["run_id"]
    before = contents(server)
    for shell in (one, other):
        for dry in ((), ("-n",)) if words == ("once.py",) else ((),):
            again = shell.bulkup("run", *words, *dry)
            assert again.code == 0
            assert f"Bump is already done as {run_id}, " in again.out
    (line,) = other.bulkup("run", *words, "--json").of_type("already_done")
    assert (line["run_id"], line["counts"]["handled"], line["exit_code"]) == (run_id, 5, 0)
    assert contents(server) == before
    assert other.runs() == []
    assert counted(client) == {1}


def test_other_parameters_another_source_or_new_are_other_work(
    shell: Shell, items: datastore.Client
) -> None:
    assert shell.bulkup("run", "once.py").code == 0
    assert shell.bulkup("run", "once.py", "-p", "step=2").code == 0
    assert counted(items) == {3}
    shell.write("once.py", ONCE + "# changed\n")
    changed = shell.bulkup("run", "once.py")
    assert "finished the same work, with other source code," in changed.err
    assert counted(items) == {4}
    assert "already done" in shell.bulkup("run", "once.py").out
    assert shell.bulkup("run", "once.py", "--new").code == 0
    assert counted(items) == {5}


def test_once_resumes_what_is_unfinished(tmp_path: Path, server: Server) -> None:
    client = seed(server, 5)
    one, other = _shell(tmp_path / "one", server), _shell(tmp_path / "other", server)
    assert one.bulkup("run", "bump.py", "--once", "--limit", "2").code == 75
    assert other.bulkup("run", "bump.py", "--once").code == 0
    assert counted(client) == {1}
    assert "already done" in one.bulkup("run", "bump.py", "--once").out


def test_once_repeats_no_entity_when_some_have_failed(
    shell: Shell, items: datastore.Client
) -> None:
    shell.write(
        "bump.py",
        BUMP.replace('entity["n"] +=', 'assert entity.key.id != 3\n        entity["n"] +='),
    )
    once = ("run", "bump.py", "--once", "--max-failures", "1")
    assert shell.bulkup(*once).code == 3
    again = shell.bulkup(*once)
    assert again.code == 3
    assert "(5 entities, 1 of them failed); --new does it again" in again.out
    assert counted(items) == {0, 1}


def test_a_chain_is_done_when_its_last_run_is(shell: Shell, items: datastore.Client) -> None:
    end = '\n    def finish(self, success, report):\n        success and self.then("second.py")\n'
    shell.write("first.py", ONCE + end)
    fail = 'import os\n        assert not os.environ.get("FAIL")\n        entity["n"] += 9 *'
    shell.write("second.py", BUMP.replace('entity["n"] +=', fail))
    assert shell.bulkup("run", "first.py", env={"FAIL": "1"}).code == 1
    assert shell.bulkup("run", "first.py").code == 0
    assert counted(items) == {10}
    done = shell.bulkup("run", "first.py").out
    assert f"already done as {shell.runs()[0]}, " in done
    assert "(10 entities)" in done
    assert shell.bulkup("run", "first.py", "--new", env={"FAIL": "1"}).code == 1
    assert shell.bulkup("abandon", shell.runs()[-1], "--yes").code == 0
    again = shell.bulkup("run", "first.py").out  # the chain that was abandoned is not done
    assert f"already done as {shell.runs()[0]}, " in again
    assert counted(items) == {11}


def test_two_jobs_that_start_at_once_do_the_work_once(tmp_path: Path, server: Server) -> None:
    client = seed(server, 5)
    shells = [_shell(tmp_path / name, server) for name in "abc"]
    jobs = [shell.begin("run", "bump.py", "--once", "--wait", "5m") for shell in shells]
    assert [ended(job).code for job in jobs] == [0, 0, 0]
    assert counted(client) == {1}
    states = [record["state"] for record in client.query(kind="BulkupRun").fetch()]
    assert sorted(set(states) - {"abandoned"}) == ["finished"]
    assert states.count("finished") == 1
    assert list(client.query(kind="BulkupClaim").fetch()) == []


def test_a_job_that_finishes_between_the_question_and_the_claim_is_seen(
    shell: Shell, items: datastore.Client
) -> None:
    """The other job does all of its work after this one has asked whether the work is done."""
    result = shell.script("""
        import bulkup
        from bulkup.runs import start

        asked = start.find_done
        def then_another_does_it(*arguments):
            found = asked(*arguments)
            start.find_done = asked
            assert bulkup.run("bump.py", once=True, state_dir="other").success
            return found

        start.find_done = then_another_does_it
        report = bulkup.run("bump.py", once=True)
        print(report.reason, report.exit_code, report.counts.handled)
    """)
    assert result.out.startswith("already done as 20"), result
    assert result.out.endswith(" 0 5\n")
    assert counted(items) == {1}
    records = items.query(kind="BulkupRun").fetch()
    assert sorted(record["state"] for record in records) == ["abandoned", "finished"]
    assert list(items.query(kind="BulkupClaim").fetch()) == []
    assert shell.runs() == []


def test_once_needs_the_record(shell: Shell, items: datastore.Client) -> None:
    for words in (("bump.py", "--once"), ("once.py",)):
        shell.bulkup("run", *words, "--no-record").fails(2, "--no-record does not work with --once")
    assert shell.bulkup("run", "bump.py", "--once", "--new").code == 2
    shell.bulkup("run", "bump.py", "--no-record")
    shell.bulkup("run", "bump.py", "--once")
    assert counted(items) == {2}  # nothing tells of the first


def test_once_in_several_namespaces_does_each_once(shell: Shell, embedded: Server) -> None:
    clients = [seed(embedded, 2, namespace=name) for name in "ab"]
    run = ("run", "bump.py", "--all-namespaces", "--once")
    assert shell.bulkup("run", "bump.py", "--namespace", "a").code == 0
    result = shell.bulkup(*run)
    assert result.code == 0, result
    assert "Bump is already done as" in result.err
    shutil.rmtree(shell.state_dir)
    assert shell.bulkup(*run).code == 0
    assert [counted(client) for client in clients] == [{1}, {1}]
    warned = shell.bulkup("run", "bump.py", "--all-namespaces")
    assert warned.err.count("finished the same work") == 1
    assert [counted(client) for client in clients] == [{2}, {2}]


def test_python_can_say_it_in_each_form(shell: Shell, items: datastore.Client) -> None:
    shell.write(
        "job.py",
        """
        import bulkup

        @bulkup.updater(kind="Item", once=True)
        def count(entity):
            entity["n"] += 1
            return entity

        if __name__ == "__main__":
            first = bulkup.run(count)
            second = bulkup.run(count)
            print(first.run_id == second.run_id, second.success, second.reason)
        """,
    )
    result = shell.script("import runpy; runpy.run_path('job.py', run_name='__main__')")
    assert result.out.startswith("True True already done as "), result
    assert counted(items) == {1}


def test_once_is_true_or_false(shell: Shell) -> None:
    shell.write("once.py", ONCE.replace("once = True", "once = 'yes'"))
    shell.bulkup("run", "once.py").fails(2, "once of Bump is 'yes'; use True or False")
