"""Clients that an updater makes itself reach the run's target, or are refused, or named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.shell import Shell, contents, seed, user_data, values
from tests.conftest import Server

WRITES = "client.put(audit(client, 'x'))"


def updater(at_import: str = "pass", in_handler: str = "pass", client: str = "") -> str:
    return f"""
from google.cloud import datastore
import bulkup

client = datastore.Client({client})

def audit(client, name):
    entity = datastore.Entity(client.key("Audit", name))
    entity["seen"] = len(list(client.query(kind="Item").fetch()))
    return entity

{at_import}

@bulkup.updater(kind="Item", max_failures=-1)
def guest(entity):
    {in_handler}
    entity["n"] += 1
    return entity
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    """The environment names a server with 3 items, and there is a file with 1."""
    seed(embedded, 3)
    shell = Shell(tmp_path, embedded)
    (tmp_path / "one.jsonl").write_text('{"__key__": ["Item", 1], "n": 0}\n')
    assert shell.bulkup("local", "load", "db", "one.jsonl").code == 0
    return shell


def write(shell: Shell, source: str) -> None:
    (shell.folder / "guest.py").write_text(source)


@pytest.mark.parametrize("where", ["at_import", "in_handler"])
def test_a_client_made_at_import_works_on_the_local_file(
    shell: Shell, embedded: Server, where: str
) -> None:
    before = contents(embedded)
    write(shell, updater(**{where: WRITES}))
    result = shell.bulkup("run", "guest.py", "--local", "db")
    assert result.code == 0, result
    assert contents(embedded) == before
    dump = shell.bulkup("local", "dump", "db").out
    assert '"seen": 1' in dump
    assert '"n": 1' in dump


@pytest.mark.parametrize("local", [[], ["--local", "db"]], ids=["server", "file"])
def test_a_dry_run_writes_nothing_through_a_client_of_the_updaters_own(
    shell: Shell, embedded: Server, local: list[str]
) -> None:
    before = contents(embedded), shell.bulkup("local", "dump", "db").out
    write(shell, updater(in_handler=WRITES))
    result = shell.bulkup("run", "-n", "guest.py", "--json", *local)
    assert result.code == 3, result
    error = result.of_type("failure")[0]["error"]
    assert "guest.py, line 5" in error
    assert "cannot write; in a function, return what to write, and in a class, use self" in error
    write(shell, updater(at_import=WRITES))
    shell.bulkup("run", "-n", "guest.py", *local).fails(1, "guest.py, line 5", "cannot write")
    assert (contents(embedded), shell.bulkup("local", "dump", "db").out) == before


def test_params_writes_nothing(shell: Shell, embedded: Server) -> None:
    before = contents(embedded)
    write(shell, updater(at_import=WRITES))
    shell.bulkup("params", "guest.py").fails(1, "guest.py, line 5", "cannot write")
    write(shell, updater(at_import="audit(client, 'x')"))
    assert shell.bulkup("params", "guest.py").code == 0
    assert contents(embedded) == before


@pytest.mark.parametrize("how", [["--project", "a b"], ["--local", "missing"]])
def test_without_a_target_an_updater_that_is_loaded_reaches_nothing(
    shell: Shell, embedded: Server, how: list[str]
) -> None:
    before = contents(embedded)
    write(shell, updater(at_import=WRITES))
    result = shell.bulkup("run", "guest.py", *how).fails(2, how[1])
    assert "guest.py" not in result.err
    assert contents(embedded) == before


def test_a_client_made_at_import_is_of_the_project_that_the_command_names(
    shell: Shell, embedded: Server
) -> None:
    write(shell, updater(at_import="print(client.project, 'it is')"))
    result = shell.bulkup("run", "guest.py", "--project", f"{embedded.project}-b")
    assert f"{embedded.project}-b it is" in result.out, result


def test_writes_to_another_project_are_named(shell: Shell, embedded: Server) -> None:
    elsewhere = f"{embedded.project}-b"
    write(shell, updater(in_handler=WRITES, client=f"project={elsewhere!r}"))
    result = shell.bulkup("run", "guest.py", "--json")
    assert result.code == 0, result
    (warning,) = result.of_type("warning")
    assert "guest.py, line 5" in warning["message"]
    assert f"project {elsewhere}" in warning["message"]
    assert "in a function, return what to write" in warning["message"]
    assert values(embedded.client()) == {1: 1, 2: 1, 3: 1}


def test_a_client_that_a_program_made_before_a_local_run_is_refused(
    shell: Shell, embedded: Server
) -> None:
    before = user_data(embedded)
    write(
        shell,
        f"""
import os
{updater(in_handler="client.put(audit(client, 'x'))")}
before = dict(os.environ)
report = bulkup.run(guest, local="db")
assert report.counts.failed == 1
assert "before the run" in report.failures[0].error, report.failures
assert "(--local)" in report.failures[0].error, report.failures
assert dict(os.environ) == before
assert len(list(client.query(kind="Item").fetch())) == 3, "the program's client still works"
assert type(client).__init__.__module__.startswith("google.")
""",
    )
    result = shell.script((shell.folder / "guest.py").read_text())
    assert result.code == 0, result
    assert user_data(embedded) == before


def test_other_threads_of_a_program_are_left_alone(shell: Shell, embedded: Server) -> None:
    """A server that calls `bulkup.run` in one thread goes on writing in the others."""
    write(
        shell,
        f"""
import os, threading
{updater()}
def serve():
    entity = audit(client, "served")
    client.put(entity)

def listener(event):
    assert os.environ.get("DATASTORE_DATASET") is None
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()

bulkup.run(guest, dry_run=True, listener=listener, project=client.project)
""",
    )
    result = shell.script((shell.folder / "guest.py").read_text())
    assert result.code == 0, result
    assert values(embedded.client(), "Audit", "seen") == {"served": 3}
    assert values(embedded.client()) == {1: 0, 2: 0, 3: 0}


@pytest.mark.slow
def test_worker_processes_are_contained_too(shell: Shell, embedded: Server) -> None:
    before = contents(embedded)
    write(shell, updater(at_import="audit(client, 'x')", in_handler=WRITES))
    result = shell.bulkup("run", "guest.py", "--local", "db", "--processes", "2")
    assert result.code == 0, result
    assert contents(embedded) == before


@pytest.mark.slow
def test_migrations_and_namespaces_are_contained_too(shell: Shell, embedded: Server) -> None:
    before = contents(embedded)
    for command in (["migrate", "updaters"], ["run", "guest.py", "--all-namespaces"]):
        write(shell, updater(at_import=WRITES))
        os.makedirs(shell.folder / "updaters", exist_ok=True)
        (shell.folder / "updaters" / "0001_guest.py").write_text(updater(at_import=WRITES))
        result = shell.bulkup(*command, "--local", "db")
        assert result.code == 0, result
        assert contents(embedded) == before
