"""How worker processes begin and end where something is in the way: signals, limits, and what the
user's code leaves behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bulkup.engine.pool import process
from tests.cli.shell import Shell, ended, seed
from tests.conftest import Server
from tests.engine import updaters
from tests.engine.conftest import Run, fill
from tests.engine.pool.test_processes_die import (
    COUNT,
    OPTIONS,
    UNTIL_S,
    happening,
    is_alive,
    until,
    workers,
)

pytestmark = pytest.mark.sampled(2)

ONLY_IN_A_WORKER = """
    import os, signal, threading, time
    from pathlib import Path
    import bulkup.engine.pool.worker_main
    from bulkup import Updater

    if bulkup.engine.pool.worker_main.IS_LOADING:
        Path("pids", str(os.getpid())).touch()
        {happens}

    class Up(Updater):
        def get_query(self):
            return self.client.query(kind="{kind}")

        def handle_entity(self, entity):
            entity["n"] += 1
            self.put(entity)
"""


def loading(folder: Path, server: Server, happens: str, kind: str = "Item") -> Shell:
    shell = Shell(folder, server)
    (folder / "pids").mkdir()
    shell.write("up.py", ONLY_IN_A_WORKER.format(happens=happens, kind=kind))
    seed(server, COUNT)
    return shell


def end_all(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_run_that_finds_nothing_does_not_wait_for_workers_that_nobody_needs(
    tmp_path: Path, embedded: Server
) -> None:
    shell = loading(tmp_path, embedded, "time.sleep(3000)", kind="Nothing")
    # As long as the run may wait for workers that are still starting.
    process = shell.begin_script(
        """
        from bulkup.cli import call
        from bulkup.engine.pool import pool

        pool.END_S = 3000
        raise SystemExit(call(["run", "up.py", "--processes", "2", "--json"]))
        """
    )
    result = ended(process)
    assert result.code == 0, result
    assert not any(is_alive(pid) for pid in workers(shell))


def test_a_second_signal_while_workers_are_being_ended_leaves_none(
    tmp_path: Path, embedded: Server
) -> None:
    stays = "import threading; threading.Thread(target=time.sleep, args=(60,)).start()"
    shell = happening(tmp_path, embedded, stays)
    script = shell.write(
        "script.py",
        """
        import bulkup
        from bulkup.engine.pool import pool
        from bulkup.engine.pool.process import WorkerProcess

        close = WorkerProcess.close

        def told(self, give_up):
            print("closing", flush=True)
            close(self, give_up)

        WorkerProcess.close = told
        pool.END_S = 50
        if __name__ == "__main__":
            try:
                bulkup.run("bump.py", processes=2)
            except KeyboardInterrupt:
                print("stopped", flush=True)
                input()
        """,
    )
    process = subprocess.Popen(
        [sys.executable, script], cwd=shell.folder, env=shell.environment, bufsize=0,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    heard = b""
    try:
        while b"stopped" not in heard:
            if b"closing" in heard:
                process.send_signal(signal.SIGINT)
            while select.select([process.stdout], [], [], 3 if heard else 30)[0]:
                more = os.read(process.stdout.fileno(), 1000)
                assert more, "it has ended"
                heard += more
        until(lambda: not any(is_alive(pid) for pid in workers(shell)))
    finally:
        process.kill()
        process.communicate()
        end_all(workers(shell))


@pytest.mark.chaos
def test_what_an_updater_did_not_close_is_written_as_with_one_process(
    tmp_path: Path, embedded: Server
) -> None:
    """Closed at the end of its process, by Python."""
    shell = Shell(tmp_path, embedded)
    shell.write(
        "up.py",
        """
        import os
        from bulkup import Updater

        OUT = open(f"out-{os.getpid()}", "w")

        class Up(Updater):
            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                print(entity.key.id, file=OUT)
        """,
    )
    seed(embedded, COUNT)

    def lines(processes: int) -> int:
        result = ended(shell.start("run", "up.py", "--processes", processes))
        assert result.code == 0, result
        return sum(len(p.read_text().splitlines()) for p in tmp_path.glob("out-*"))

    shell.environment["PYTHONWARNINGS"] = "ignore"
    assert lines(1) == COUNT
    for path in tmp_path.glob("out-*"):
        path.unlink()
    assert lines(2) == COUNT


@pytest.mark.one_in(2)
@pytest.mark.parametrize("happens", ["", "os.closerange(3, 300); time.sleep(12)"])
def test_a_worker_that_closed_its_pipe_and_stays_alive_is_not_reported_as_a_bug(
    tmp_path: Path, embedded: Server, happens: str
) -> None:
    shell = happening(tmp_path, embedded, happens or "pass")
    result = shell.bulkup(*OPTIONS, "--json")
    assert "bug in bulkup" not in result.err
    assert result.code == (1 if happens else 0), result


@pytest.mark.chaos
def test_a_worker_whose_main_thread_died_ends_the_run(tmp_path: Path, embedded: Server) -> None:
    """A thread that the user started would keep the process alive, and the run would never end."""
    shell = happening(
        tmp_path, embedded,
        "import threading, asyncio; threading.Thread(target=time.sleep, args=(3000,)).start();"
        " raise asyncio.CancelledError",
    )  # fmt: skip
    process = shell.start(*OPTIONS, "--json")
    try:
        process.wait(UNTIL_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1


def test_a_sigterm_to_all_processes_while_workers_start_is_an_interruption(
    tmp_path: Path, embedded: Server
) -> None:
    """A service manager signals every process of its group."""
    shell = loading(tmp_path, embedded, "pass")
    process = shell.start("run", "up.py", "--processes", "2", "--json")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def ours() -> list[int]:
        with suppress(OSError):
            pids = [int(pid) for pid in children.read_text().split()]
            return [
                p for p in pids if b"pool.worker_main" in Path(f"/proc/{p}/cmdline").read_bytes()
            ]
        return []

    until(lambda: len(ours()) == 2)
    both = ours()
    process.send_signal(signal.SIGTERM)
    for pid in both:
        with suppress(ProcessLookupError):  # the run has ended it already
            os.kill(pid, signal.SIGTERM)
    assert ended(process).code == 143


def test_a_fork_that_comes_back_from_a_handler_does_not_stay_for_ever(
    tmp_path: Path, embedded: Server
) -> None:
    """`exit` in the child, the usual way to end one, is recorded as a failure of the entity."""
    forked = "(os.fork() == 0 and (Path('forked').write_text(str(os.getpid())), exit(0)))"
    shell = happening(tmp_path, embedded, forked)
    result = shell.bulkup(*OPTIONS, "--max-failures", "-1")
    pid = int((tmp_path / "forked").read_text())
    try:
        assert result.code in (0, 3), result
        until(lambda: not is_alive(pid))
    finally:
        end_all([pid])


def test_a_thread_that_cannot_be_started_ends_the_run_in_one_sentence(
    embedded: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a limit of processes may give."""
    fill(embedded, "Thing", 30, n=0)
    started: list[Any] = []
    popen, thread = subprocess.Popen, process.threading.Thread

    class Limited(thread):  # type: ignore[misc, valid-type]
        def start(self) -> None:
            if "_listen" in self.name and len(started) == 2:
                raise RuntimeError("can't start new thread")
            super().start()

    def remembered(*args: Any, **options: Any) -> Any:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(process.threading, "Thread", Limited)
    monkeypatch.setattr(process.subprocess, "Popen", remembered)
    try:
        report = run(embedded, updaters.Stamp, processes=3)
        assert "worker process 2 of 3 could not be started" in report.reason
    finally:
        alive = [p.pid for p in started if p.poll() is None]
        end_all(alive)
    assert alive == []


def test_a_pipe_that_cannot_be_opened_leaves_no_descriptor_open(
    embedded: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 30, n=0)
    pipe, made = os.pipe, []

    def limited() -> tuple[int, int]:
        if made:
            raise OSError(24, "Too many open files")
        made.extend(pipe())
        return made[0], made[1]

    monkeypatch.setattr(process.os, "pipe", limited)
    report = run(embedded, updaters.Stamp, processes=2)
    assert "could not be started" in report.reason
    monkeypatch.undo()
    for descriptor in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
