"""`bulkup status`: every status, its exit code, and that nothing is written."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, contents, ended
from tests.conftest import Server
from tests.migrations.conftest import write_step

pytestmark = pytest.mark.sampled(9)


def nothing(shell: Shell, client: datastore.Client) -> None:
    pass


def applied(shell: Shell, client: datastore.Client) -> None:
    assert shell.bulkup("migrate").code == 0


def failed(shell: Shell, client: datastore.Client) -> None:
    assert shell.bulkup("migrate", env={"FAIL_AT": "b"}).code == 1


def killed(shell: Shell, client: datastore.Client) -> None:
    assert shell.bulkup("migrate", env={"DIE_AT": "b"}).code == -9


def stopped(shell: Shell, client: datastore.Client) -> None:
    assert shell.bulkup("migrate", "--limit", "5").code == 75


def changed(shell: Shell, client: datastore.Client) -> None:
    applied(shell, client)
    write_step(shell, "0002_b", "x")


def missing(shell: Shell, client: datastore.Client) -> None:
    applied(shell, client)
    (shell.folder / "updaters/0002_b.py").unlink()


def running_elsewhere(shell: Shell, client: datastore.Client) -> None:
    killed(shell, client)
    held_elsewhere(client, "0002_b")


def held_elsewhere(client: datastore.Client, migration: str) -> None:
    """As if a live process on another machine held the migration."""
    query = client.query(kind="BulkupRun")
    query.add_filter(filter=datastore.query.PropertyFilter("migration", "=", migration))
    (run_info,) = query.fetch()
    run_info["holder"] = run_info["holder"].replace('"machine": "', '"machine": "elsewhere-')
    run_info["lease_until"] = datetime.now(timezone.utc) + timedelta(seconds=50)
    client.put(run_info)


A, P = "applied", "pending"


@pytest.mark.parametrize(
    ("make", "statuses", "code", "says"),
    [
        (nothing, [P, P, P], 4, "3 migrations to apply, 0 wrong."),
        (applied, [A, A, A], 0, "Everything is applied."),
        (failed, [A, "failed", P], 4, "not today"),
        (killed, [A, "interrupted", P], 4, "its process was killed"),
        (stopped, ["interrupted", P, P], 4, "stopped after 5 entities"),
        (changed, [A, "changed", A], 4, "changed after it was applied"),
        (missing, [A, A, "missing"], 4, "its file is missing"),
        (running_elsewhere, [A, "running", P], 4, "process "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_sets_the_exit_code_and_writes_nothing(
    project: Shell,
    items: datastore.Client,
    embedded: Server,
    make: Callable[[Shell, datastore.Client], None],
    statuses: list[str],
    code: int,
    says: str,
) -> None:
    make(project, items)
    before, disk = contents(embedded), project.runs()
    table = project.bulkup("status", "--check")
    assert table.code == code
    assert says in table.out
    assert table.err == ""
    told = project.bulkup("status", "--json")
    assert told.code == 0  # without --check it only reports
    assert [row["standing"] for row in told.of_type("migration")] == statuses
    (last,) = told.of_type("status")
    assert last["done"] is (code == 0)
    assert (contents(embedded), project.runs()) == (before, disk)


def test_a_running_migration_shows_its_holder_and_progress(
    project: Shell, items: datastore.Client
) -> None:
    stopped(project, items)
    held_elsewhere(items, "0001_a")
    row: dict[str, Any] = project.bulkup("status", "--json").of_type("migration")[0]
    assert row["counts"]["handled"] == 5
    assert "@" in row["who"]
    assert row["lease_until"] > row["started"]
    project.bulkup("status").out.index("since 20")


def test_a_failed_migration_is_counted_as_failed(project: Shell, items: datastore.Client) -> None:
    failed(project, items)
    assert "1 migration to apply, 1 failed, 0 wrong." in project.bulkup("status").out


def test_times_have_one_format_and_nothing_ends_before_it_starts(
    project: Shell, items: datastore.Client
) -> None:
    assert project.bulkup("mark", "0001_a", "--applied").code == 0  # it starts and ends at once
    (run,) = project.bulkup("list", "--all", "--json").of_type("run")
    migration = project.bulkup("status", "--json").of_type("migration")[0]
    for row in (run, migration):
        assert row["started"].endswith("Z")
        assert len(row["started"]) == len(row["ended"])
        assert row["started"] <= row["ended"]


def test_status_does_not_run_the_users_code(project: Shell, items: datastore.Client) -> None:
    project.write("updaters/0004_d.py", "raise SystemExit('run')")
    result = project.bulkup("status", "--json")
    assert result.code == 0
    assert result.of_type("migration")[-1]["standing"] == "pending"


def test_a_missing_and_an_empty_folder(project: Shell, items: datastore.Client) -> None:
    project.bulkup("status", "nowhere").fails(10, "no folder nowhere", "`bulkup status DIR`")
    (project.folder / "empty").mkdir()
    result = project.bulkup("status", "empty", "--check")
    assert (result.code, result.out.splitlines()[-1]) == (0, "There are none.")


def test_stored_escape_sequences_do_not_reach_the_terminal(
    project: Shell, items: datastore.Client
) -> None:
    failed(project, items)
    for run_info in list(items.query(kind="BulkupRun").fetch()):
        run_info["reason"] = "\x1b]0;owned\x07[red]"
        run_info["marked"] = "\x1b[2J"
        items.put(run_info)
    out = project.bulkup("status").out
    assert "\x1b" not in out
    assert "owned" in out


def test_a_record_that_only_says_that_it_is_of_a_migration_is_named(
    project: Shell, items: datastore.Client
) -> None:
    shell, client = project, items
    stopped(shell, client)
    records = [r for r in client.query(kind="BulkupRun").fetch() if r.get("migration")]
    forged = datastore.Entity(client.key("BulkupRun", "x" * 40 + "y"))
    forged.update(records[0])
    forged["record"] = records[0]["record"].replace(records[0].key.name, forged.key.name)
    forged.exclude_from_indexes.update(records[0].exclude_from_indexes)
    client.put(forged)
    result = shell.bulkup("status")
    assert result.code == 1, result
    assert "bulkup has not written it" in result.err


def test_watch_prints_each_line_that_changes_and_ctrl_c_ends_it(
    project: Shell, items: datastore.Client
) -> None:
    watching = project.begin("status", "--watch", "--json")
    assert watching.stdout is not None

    def lines_until_done(done: bool) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1]["type"] != "status" or lines[-1]["done"] is not done:
            assert watching.stdout is not None
            lines.append(json.loads(watching.stdout.readline()))
        return lines

    before = lines_until_done(False)
    pending = [line["name"] for line in before if line["type"] == "migration"]
    assert {line["standing"] for line in before if line["type"] == "migration"} == {"pending"}
    assert project.bulkup("migrate").code == 0
    after = lines_until_done(True)
    applied = {line["name"] for line in after if line.get("standing") == "applied"}
    assert applied == {*pending}
    watching.send_signal(signal.SIGINT)
    rest = ended(watching)
    assert (rest.code, rest.out, rest.err) == (0, "", "")
    refused = project.bulkup("status", "--watch", "--check")
    assert refused.code == 2
    assert "--watch and --check cannot be used together" in refused.err


def test_watch_redraws_the_table_in_place_on_a_terminal_when_it_changes(
    project: Shell, items: datastore.Client
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkup", "status", "--watch"],
        cwd=project.folder, env={**project.environment, "TERM": "xterm", "COLUMNS": "80"},
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    drawn = _read_until(ours, "3 migrations to apply")
    assert project.bulkup("migrate").code == 0
    drawn += _read_until(ours, "Everything is applied.")
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 0
    drawn += _read_until(ours, "\x1b[?25h")
    os.close(ours)
    assert "\x1b[?1049h" not in drawn  # what was there can still be read and copied
    assert "\x1b[1A\x1b[2K" in drawn
    assert "Traceback" not in drawn
    assert max(map(len, re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "\n", drawn).splitlines())) <= 80


def _read_until(terminal: int, text: str) -> str:
    read = ""
    while text not in read:
        read += os.read(terminal, 65536).decode()
    return read
