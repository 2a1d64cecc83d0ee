"""What an updater does to its own process, or beside it, does not keep a rehearsal from its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.rehearsal import RehearsedWork
from bulkup.rehearsal import process
from bulkup.rehearsal.rehearse import rehearse
from tests.rehearsal.data import items, request, write


def rehearsed(tmp_path: Path, source: str, kills: int = 1) -> RehearsedWork:
    file = items(tmp_path / "items", 4)
    (work,) = rehearse(request(write(tmp_path, "up.py", source), file, kills=kills)).works
    return work


def test_an_updater_that_serves_a_port_is_served_in_each_pass(tmp_path: Path) -> None:
    """The thread never ends, and each pass listens on the same port."""
    port = tmp_path / "port"
    work = rehearsed(
        tmp_path,
        f"""
        import pathlib, threading
        from http.server import BaseHTTPRequestHandler, HTTPServer
        import bulkup

        noted = pathlib.Path({str(port)!r})
        number = int(noted.read_text()) if noted.exists() else 0
        server = HTTPServer(("127.0.0.1", number), BaseHTTPRequestHandler)
        noted.write_text(str(server.server_port))
        threading.Thread(target=server.serve_forever).start()

        @bulkup.updater(kind="Item")
        def serves(entity):
            entity["port"] = server.server_port
            return entity
        """,
    )
    assert work.finished
    assert work.is_idempotent is True
    assert work.crash is not None
    assert work.crash.is_same, work.crash.unlike


DAEMON = """
    import os, subprocess, time
    import bulkup

    started = False

    @bulkup.updater(kind="Item")
    def starts(entity):
        global started
        if not started:
            started = True
            with open({pids!r}, "a") as file:
                print({start}, file=file)
        entity["label"] = "x"
        return entity

    def fork():
        pid = os.fork()
        if not pid:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        return pid
"""


def with_daemon(tmp_path: Path, start: str) -> RehearsedWork:
    pids = tmp_path / "pids"
    try:
        return rehearsed(tmp_path, DAEMON.format(pids=str(pids), start=start))
    finally:
        for pid in pids.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_a_daemon_that_the_updater_has_started_is_not_waited_for(tmp_path: Path) -> None:
    """It holds the standard output of its pass open."""
    work = with_daemon(tmp_path, 'subprocess.Popen(["sleep", "600"], start_new_session=True).pid')
    assert work.finished
    assert work.crash is not None
    assert work.crash.is_same, work.crash.unlike


def test_a_fork_that_outlives_its_run_keeps_the_lock_of_it(tmp_path: Path) -> None:
    """As it would on production, where the run could not be resumed either."""
    work = with_daemon(tmp_path, "fork()")
    assert work.finished
    assert work.crash is not None
    assert "is working on run" in work.crash.unlike
    assert work.exit_code == Exit.PENDING


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (["sleep", "600"], "lives on, perhaps as another program"),
        (["true"], "exit code 0"),
        (["sh", "-c", "echo password=hunter2; exit 3"], "exit code 3"),
    ],
)
def test_a_process_that_replaces_itself_has_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: list[str], text: str
) -> None:
    monkeypatch.setattr(process, "_DEATH_WITHIN_S", 1.0)
    source = f"""
        import os
        import bulkup

        @bulkup.updater(kind="Item")
        def replaces(entity):
            os.execvp({program[0]!r}, {program!r})
        """
    with pytest.raises(BulkupError, match=text) as raised:
        rehearsed(tmp_path, source)
    assert "hunter2" not in raised.value.details
