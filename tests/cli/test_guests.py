"""What an updater does to its process is its own business: the run continues."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.shell import Result, Shell, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

TIMEOUT_S = 240
"""Code that hangs forever."""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    seed(embedded, 6)
    return Shell(tmp_path, embedded)


def updater(at_import: str = "", in_query: str = "pass", in_handler: str = "pass") -> str:
    return f"""
import multiprocessing, os, signal, sys, time, threading, warnings
from bulkup import Updater

def double(n):
    return 2 * n

{at_import}

class Guest(Updater):
    max_failures = -1

    def get_query(self):
        {in_query}
        return self.client.query(kind="Item")

    def handle_entity(self, entity):
        {in_handler}
        entity["n"] += 1
        self.put(entity)
"""


def run(shell: Shell, source: str, *options: str) -> Result:
    (shell.folder / "guest.py").write_text(source)
    return shell.bulkup("run", "guest.py", *options, timeout_s=TIMEOUT_S)


FORK = "multiprocessing.get_context('fork')"


@pytest.mark.parametrize(
    "children",
    [
        f"with {FORK}.Pool(2) as pool: entity['n'] += sum(pool.map(double, [0, 0]))",
        f"child = {FORK}.Process(target=time.sleep, args=(600,)); child.start(); "
        "child.terminate(); child.join(); assert child.exitcode == -signal.SIGTERM",
        "os.spawnlp(os.P_WAIT, 'true', 'true')",
        "import asyncio; asyncio.run(asyncio.sleep(0))",
    ],
    ids=["Pool", "Process.terminate", "spawn", "asyncio"],
)
def test_a_handler_may_use_processes(shell: Shell, embedded: Server, children: str) -> None:
    result = run(shell, updater(in_handler=children))
    assert result.code == 0, result
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)


def test_a_forked_process_has_no_threads_of_grpc(shell: Shell) -> None:
    # With them, one process in a hundred dies of SIGSEGV.
    fork = """
        ours, theirs = os.pipe()
        if os.fork() == 0:
            os.write(theirs, str(len(os.listdir("/proc/self/task"))).encode())
            os._exit(0)
        os.close(theirs)
        self.log(os.read(ours, 10).decode())
        os.close(ours)"""
    result = run(shell, updater(in_handler=fork), "--json")
    assert result.code == 0, result
    assert [line["line"] for line in result.of_type("log")] == ["1"] * 6


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["run", "workers"])
def test_hundreds_of_forked_processes_end_as_they_should(
    shell: Shell, embedded: Server, options: list[str]
) -> None:
    fork = """
        for _ in range(50):
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0"""
    result = run(shell, updater(in_handler=fork), *options)
    assert result.code == 0, result
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)


@pytest.mark.slow
def test_a_handler_in_a_worker_process_may_use_processes(shell: Shell, embedded: Server) -> None:
    pool = f"with {FORK}.Pool(2) as pool: pool.map(double, [0, 0])"
    result = run(shell, updater(in_handler=pool), "--processes", "2")
    assert result.code == 0, result
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)


@pytest.mark.parametrize("ends", ["return", "raise ValueError"])
def test_a_forked_process_that_leaves_the_handler_does_not_become_a_second_run(
    shell: Shell, embedded: Server, ends: str
) -> None:
    fork = f"""
        if entity.key.id == 3:
            child = os.fork()
            if child == 0:
                {ends}
            assert os.waitpid(child, 0)[1] == 0"""
    result = run(shell, updater(in_handler=fork), "--json")
    assert result.code == 0, result
    assert result.err.count("ended process") == 1
    assert [line["counts"]["handled"] for line in result.of_type("summary")] == [6]
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)


@pytest.mark.parametrize(
    "call", ["self.client.get(entity.key)", "list(self.client.query(kind='Item').fetch())"]
)
def test_a_forked_process_that_uses_the_client_is_refused_in_a_sentence(
    shell: Shell, call: str
) -> None:
    fork = f"""
        ours, theirs = os.pipe()
        if os.fork() == 0:
            try:
                {call}
            except BaseException as error:
                os.write(theirs, str(error).encode())
            os._exit(0)
        os.close(theirs)
        self.log(os.read(ours, 1000).decode())
        os.close(ours)"""
    result = run(shell, updater(in_handler=fork), "--json")
    assert result.code == 0, result
    lines = [line["line"] for line in result.of_type("log")]
    assert len(lines) == 6
    assert all("gRPC does not survive a fork" in line for line in lines)


ELSEWHERE = "os.makedirs('elsewhere', exist_ok=True); os.chdir('elsewhere')"
GONE = "os.makedirs('gone', exist_ok=True); os.chdir('gone'); os.rmdir(os.getcwd())"


@pytest.mark.parametrize(
    "where",
    [
        {"at_import": ELSEWHERE},
        {"in_query": ELSEWHERE},
        {"in_handler": ELSEWHERE},
        {"at_import": GONE},
    ],
    ids=["import", "get_query", "handle_entity", "deleted"],
)
def test_run_state_stays_where_it_was_when_an_updater_changes_the_directory(
    shell: Shell, embedded: Server, where: dict[str, str]
) -> None:
    stopped = run(shell, updater(**where), "--limit", "2", "--state-dir", "state")
    assert stopped.code == 75, stopped
    assert "--state-dir state" in stopped.out + stopped.err
    assert str(shell.folder) not in stopped.out.replace(str(shell.folder / "guest.py"), "")
    (folder,) = (shell.folder / "state").iterdir()
    assert {path.name for path in folder.iterdir()} >= {"checkpoint.sqlite", "report.txt"}
    resumed = shell.bulkup("resume", "--state-dir", "state", timeout_s=TIMEOUT_S)
    assert resumed.code == 0, resumed
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)
    assert not list(shell.folder.glob("*/state")), "a second state directory"


@pytest.mark.parametrize("where", ["at_import", "in_query", "in_handler"])
def test_a_local_file_is_found_when_an_updater_changes_the_directory(
    shell: Shell, where: str
) -> None:
    (shell.folder / "data.jsonl").write_text('{"__key__": ["Item", 1], "n": 0}\n')
    assert shell.bulkup("local", "load", "db", "data.jsonl").code == 0
    result = run(shell, updater(**{where: ELSEWHERE}), "--local", "db")
    assert result.code == 0, result
    assert shell.state_dir.is_dir()
    assert '"n": 1' in shell.bulkup("local", "dump", "db").out


@pytest.mark.slow
def test_worker_processes_load_the_updater_where_the_run_did(
    shell: Shell, embedded: Server
) -> None:
    at_import = "os.makedirs('below', exist_ok=True); os.chdir('below')"
    result = run(shell, updater(at_import=at_import), "--processes", "2")
    assert result.code == 0, result
    assert not (shell.folder / "below" / "below").exists()
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "does",
    [
        "sys.stdout.close()",
        "sys.stderr.close()",
        "sys.stdout = sys.stderr = open(os.devnull, 'w')",
        "sys.stdout = None",
        "os.environ.clear()",
        "sys.path.clear(); sys.path_importer_cache.clear()",
        "sys.setrecursionlimit(90)",
        "warnings.simplefilter('error')",
        "import logging; logging.basicConfig(level=0, stream=sys.stdout, force=True)",
        "import locale; locale.setlocale(locale.LC_ALL, 'C')",
        "os.umask(0)",
        "os.umask(0o777)",
        "import atexit; atexit.register(lambda: 1 / 0)",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.signal(signal.SIGTERM, lambda *_: None)",
        "sys.argv.clear()",
        "sys.excepthook = sys.unraisablehook = threading.excepthook = print",
        "import gc; gc.disable()",
        "threading.settrace(lambda *_: None); sys.settrace(None)",
        "time.tzset(); os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    ],
    ids=lambda does: does[:25],
)
@pytest.mark.parametrize("where", ["in_handler", pytest.param("at_import", marks=pytest.mark.slow)])
def test_a_run_continues_whatever_an_updater_does_to_its_process(
    shell: Shell, embedded: Server, where: str, does: str
) -> None:
    result = run(shell, updater(**{where: does}), "--json")
    assert result.code == 0, result
    assert result.summary["counts"]["handled"] == 6
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)
    (folder,) = shell.state_dir.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} >= {"checkpoint.sqlite", "report.txt"}
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.slow
def test_an_updater_may_use_gevent(shell: Shell, embedded: Server) -> None:
    result = run(shell, updater(PATCH, in_handler="time.sleep(0)"))
    assert result.code == 0, result
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 1)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in_query", "in_handler"])
def test_gevent_that_comes_too_late_is_refused_in_a_sentence(shell: Shell, where: str) -> None:
    result = run(shell, updater(**{where: PATCH}))
    assert result.code == 1, result
    assert "call it at the top of the updater's file" in result.out + result.err


@pytest.mark.slow
def test_gevent_with_worker_processes_is_refused_in_a_sentence(shell: Shell) -> None:
    result = run(shell, updater(PATCH), "--processes", "2")
    assert result.code == 2, result
    assert "--processes does not work with Guest" in result.err
    assert not shell.state_dir.exists()


@pytest.mark.slow
def test_gevent_with_an_async_handler_is_refused_in_a_sentence(shell: Shell) -> None:
    shell.write(
        "guest.py",
        f"""
        {PATCH}
        import bulkup

        @bulkup.updater(kind="Item")
        async def guest(item):
            return item
        """,
    )
    result = shell.bulkup("run", "guest.py")
    assert result.code == 2, result
    assert "guest is async, which does not work where Python's threads are replaced" in result.err
