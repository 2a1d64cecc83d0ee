"""Worker processes and their run, killed, signalled and stopped at an exact entity."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import shell as shell_module
from tests.cli.shell import Result, Shell, ended, markers, seed, values
from tests.conftest import Server

pytestmark = [pytest.mark.sampled(2), pytest.mark.client_side]

UNTIL_S = 300
"""A hang must fail; a busy machine must not."""

COUNT = 300
AT = 150
"""The entity at which it happens, the first time."""

BUMP = """
    import os, signal, time
    from pathlib import Path
    from bulkup import Updater

    class Bump(Updater):
        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            Path("pids", str(os.getpid())).touch()
            if entity.key.id == {at} and not Path("happened").exists():
                Path("happened").touch()
                {happens}
            entity["n"] += 1
            self.put(entity)
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + UNTIL_S
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


@pytest.fixture(params=["EM", "LF"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue({"EM": "embedded", "LF": "lf"}[request.param])
    return server


def happening(folder: Path, server: Server, happens: str) -> Shell:
    """A shell with COUNT entities, and an updater to which something happens once."""
    shell = Shell(folder, server)
    (folder / "pids").mkdir()
    shell.write("bump.py", BUMP.format(at=AT, happens=happens))
    seed(server, COUNT)
    return shell


def workers(shell: Shell) -> list[int]:
    return [int(path.name) for path in (shell.folder / "pids").iterdir()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def check_resume(shell: Shell, server: Server, *options: object, clean: bool = True) -> None:
    """Resume, and check that each entity was counted up exactly once. `clean`: the outcome of every
    commit was known when the run ended, so no marker has to stay."""
    before = list(values(server.client()).values())
    assert set(before) <= {0, 1}
    assert 0 in before
    resumed = shell.bulkup("resume", "--batch-size", "20", *options)
    assert resumed.code == 0, resumed
    assert set(values(server.client()).values()) == {1}
    assert (markers(server) == []) == clean


COLLECTING = """
    from bulkup.cli import call
    from bulkup.engine.pool import pool

    pool.COLLECT_S = {seconds}
    raise SystemExit(call({args!r}))
"""
"""A run that, once stopped, gives its workers `seconds` to finish their current entity."""

OPTIONS = ("run", "bump.py", "--processes", "2", "--batch-size", "20")


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.chaos), 3])
def test_a_run_killed_with_its_workers_busy_resumes_with_another_number_of_workers(
    tmp_path: Path, server: Server, processes: int
) -> None:
    shell = happening(tmp_path, server, "os.kill(os.getppid(), signal.SIGKILL)")
    assert ended(shell.begin(*OPTIONS)).code == -signal.SIGKILL
    check_resume(shell, server, "--processes", processes, clean=False)


@pytest.mark.chaos
def test_killed_with_several_shards_at_work(tmp_path: Path, server: Server) -> None:
    shell = happening(tmp_path, server, "os.kill(os.getppid(), signal.SIGKILL)")
    assert ended(shell.begin(*OPTIONS, "--shards", "4")).code == -signal.SIGKILL
    check_resume(shell, server, "--processes", 2, "--shards", 3, clean=False)


def test_a_killed_run_leaves_no_orphan_even_in_the_middle_of_a_long_handler(
    tmp_path: Path, embedded: Server
) -> None:
    happens = """while len(os.listdir("pids")) < 2:
                    time.sleep(0.02)
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(3000)"""
    shell = happening(tmp_path, embedded, happens)
    assert ended(shell.begin(*OPTIONS)).code == -signal.SIGKILL
    assert len(workers(shell)) == 2
    until(lambda: not any(is_alive(pid) for pid in workers(shell)))
    check_resume(shell, embedded, clean=False)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("happens", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL (perhaps because memory ran out)"),
        pytest.param("os._exit(7)", "with exit code 7", marks=pytest.mark.chaos),
        ("os.fork() or time.sleep(5) or os._exit(0); os._exit(7)", "with exit code 7"),
    ],
)
def test_a_worker_that_dies_ends_the_run_with_one_sentence_and_the_run_can_be_resumed(
    tmp_path: Path, server: Server, happens: str, says: str
) -> None:
    shell = happening(tmp_path, server, happens)
    result = shell.bulkup(*OPTIONS, "--json")
    assert result.code == 1, result
    reason = result.summary["reason"]
    assert says in reason, reason
    assert "while it handled" in reason
    assert "Item" in reason
    assert "resume writes nothing twice" in reason
    assert "Traceback" not in result.err
    assert not any(is_alive(pid) for pid in workers(shell))
    check_resume(shell, server, "--processes", 2)


@pytest.mark.chaos
def test_workers_that_cannot_start_end_the_run_with_one_sentence_and_it_can_be_resumed(
    tmp_path: Path, embedded: Server
) -> None:
    shell = happening(tmp_path, embedded, "pass")
    command = shlex.join([sys.executable, "-m", "bulkup", *OPTIONS, "--processes", "32", "--json"])
    limited = subprocess.Popen(
        ["/bin/sh", "-c", f"ulimit -n 32; exec {command}"],
        cwd=shell.folder, env=shell.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    result = ended(limited)
    assert result.code == 1, result
    assert "could not be started (Too many open files)" in result.summary["reason"]
    assert "fewer --processes" in result.summary["reason"]
    assert "Traceback" not in result.err
    # The run ended before it had looked at its shards, so its markers stay.
    check_resume(shell, embedded, "--processes", 2, clean=False)


@pytest.mark.parametrize(
    ("which", "code"), [("SIGINT", 130), pytest.param("SIGTERM", 143, marks=pytest.mark.chaos)]
)
def test_a_signal_ends_the_run_after_the_work_in_progress(
    tmp_path: Path, server: Server, which: str, code: int
) -> None:
    shell = happening(tmp_path, server, f"os.kill(os.getppid(), signal.{which}); time.sleep(0.3)")
    result = ended(shell.begin(*OPTIONS, "--json"))
    assert result.code == code, result
    assert result.summary["counts"]["handled"] == sum(values(server.client()).values())
    check_resume(shell, server, "--processes", 2)


@pytest.mark.chaos
def test_the_second_signal_ends_it_at_once(tmp_path: Path, embedded: Server) -> None:
    shell = happening(tmp_path, embedded, "time.sleep(3000)")
    # Too long to matter: only the second signal can end it.
    process = shell.begin_script(COLLECTING.format(seconds=3000, args=OPTIONS))
    until(lambda: (shell.folder / "happened").exists())
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(2)  # two signals that arrive together may be heard as one
        except subprocess.TimeoutExpired:
            continue
    result = ended(process)
    assert result.code == 130, result
    assert not any(is_alive(pid) for pid in workers(shell))
    check_resume(shell, embedded, clean=False)


@pytest.mark.chaos
def test_a_handler_that_does_not_end_delays_a_signalled_run_for_a_bounded_time(
    tmp_path: Path, embedded: Server
) -> None:
    shell = happening(tmp_path, embedded, "os.kill(os.getppid(), signal.SIGINT); time.sleep(3000)")
    result = ended(shell.begin_script(COLLECTING.format(seconds=1, args=OPTIONS)))
    assert result.code == 130, result
    assert not any(is_alive(pid) for pid in workers(shell))
    check_resume(shell, embedded, "--processes", 2)


@pytest.mark.chaos
def test_signals_to_the_workers_themselves_mean_nothing(tmp_path: Path, embedded: Server) -> None:
    here = "os.getpid()"
    shell = happening(
        tmp_path, embedded, f"os.kill({here}, signal.SIGINT); os.kill({here}, signal.SIGTERM)"
    )
    assert shell.bulkup(*OPTIONS).code == 0
    assert set(values(embedded.client()).values()) == {1}


def test_json_lines_stay_alone_on_stdout_whatever_a_handler_prints(
    tmp_path: Path, embedded: Server
) -> None:
    shell = happening(tmp_path, embedded, "print('hello from a worker')")
    result = shell.bulkup(*OPTIONS, "--json")
    assert result.code == 0, result
    assert result.summary["counts"]["handled"] == COUNT
    assert "hello from a worker" in result.err


@pytest.mark.chaos
def test_an_output_that_lacks_a_letter_does_not_end_the_run(
    tmp_path: Path, embedded: Server
) -> None:
    shell = happening(tmp_path, embedded, "print('gr\\u00fcn')")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    result = ended(shell.start(*OPTIONS, "-q", env=ascii_only))
    assert result.code == 0, result
    assert "gr\\xfcn" in result.out + result.err


@pytest.mark.chaos
def test_on_an_embedded_datastore_in_a_file(tmp_path: Path) -> None:
    nowhere = Shell(tmp_path)
    nowhere.write("bump.py", shell_module.BUMP)
    lines = "".join(f'{{"id": {i}, "n": 0}}\n' for i in range(1, 201))
    nowhere.write("items.jsonl", lines)
    assert nowhere.bulkup("local", "load", "store", "items.jsonl", "--kind", "Item").code == 0
    result = nowhere.bulkup("run", "bump.py", "--local", "store", "--processes", "2")
    assert result.code == 0, result
    dumped = nowhere.bulkup("local", "dump", "store", "--kind", "Item")
    assert dumped.out.count('"n": 1') == 200, dumped


@pytest.mark.chaos
def test_a_script_that_would_start_runs_in_its_workers_gets_an_error(
    tmp_path: Path, embedded: Server
) -> None:
    shell = happening(tmp_path, embedded, "pass")
    script = shell.write(
        "script.py",
        """
        import bulkup

        @bulkup.updater(kind="Item")
        def bump(entity):
            entity["n"] += 1
            return entity

        report = bulkup.run(bump, processes=2)
        print(report.exit_code, report.reason)
        """,
    )
    source = script.read_text()
    told = python(shell, script)
    assert told.out.startswith("2 "), told
    assert "Traceback" not in told.err
    assert 'below `if __name__ == "__main__":`' in told.out
    assert set(values(embedded.client()).values()) == {0}
    head, _, tail = source.partition("report =")
    tail = tail.replace("\n", "\n    ").rstrip()
    script.write_text(f'{head}if __name__ == "__main__":\n    report ={tail}\n')
    done = python(shell, script)
    assert done.out.startswith("0 "), done
    assert set(values(embedded.client()).values()) == {1}


def python(shell: Shell, script: Path) -> Result:
    done = subprocess.run(
        [sys.executable, script], cwd=shell.folder, env=shell.environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)
