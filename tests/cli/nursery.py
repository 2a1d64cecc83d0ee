"""Cheap real processes: one process imports what bulkup needs, and is forked for each command.

Importing grpc and google.cloud takes most of the second that a short command lasts, and there are
a thousand such commands in these tests: 0.1 s of CPU each, and not 1.2. After `install`, this holds
for every `subprocess.Popen` of this interpreter with `-m bulkup` or `-c`, also where bulkup starts
its embedded server or worker processes, and again within a process that was started in this way. It
stays a child process like any other, with the same pipes, folder, environment and session. Only
a start with `executable=...` or with options for the interpreter is one from nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import inspect
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[2]
MAX_REQUEST_BYTES = 1024 * 1024
START_TIMEOUT_S = 300
"""What it waits for takes a second; a hang must fail, and a busy machine must not."""
WARM = (
    "bulkup.cli.run", "bulkup.cli.resume", "bulkup.cli.list", "bulkup.cli.show",
    "bulkup.cli.params", "bulkup.cli.session", "bulkup.runs.start", "bulkup.runs.resume",
    "bulkup.report", "bulkup.report.terminal", "bulkup.report.jsonl",
    "google.auth", "google.cloud.datastore", "rich.table", "rich.live",
    "bulkup.cli.migrate", "bulkup.cli.status", "bulkup.cli.mark", "bulkup.cli.unlock",
    "bulkup.migrations.apply", "bulkup.migrations.connect",
    "bulkup.cli.local", "bulkup.local.server", "bulkup.engine.pool.worker_main",
)  # fmt: skip

_WITH_WORKERS = frozenset({"--processes", "rehearse"})
"""In a command: it starts processes when it has threads, or handlers of signals, already."""

_CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
_CLONE_PARENT = 0x8000
_HARMLESS = {"PYTHONPATH", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
"""All other variables of Python's are read by an interpreter that starts, and not by a fork."""

_execute_child = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_parameters = tuple(inspect.signature(_execute_child).parameters)


def install() -> None:
    """From now on Python processes start from a warm one, where this system can do so."""
    if sys.platform == "linux" and _CLONE:
        subprocess.Popen._execute_child = _start_child  # type: ignore[attr-defined]


def _start_child(popen: subprocess.Popen[Any], *values: Any) -> None:
    given = dict(zip(_parameters[1:], values, strict=True))
    if not (_can_be_forked(given) and _forked(popen, given)):
        _execute_child(popen, *values)


def _can_be_forked(given: Mapping[str, Any]) -> bool:
    args = given["args"]
    if given["executable"] or given["shell"] or given["preexec_fn"] or isinstance(args, str | Path):
        return False
    if args[0] != sys.executable or args[1] not in ("-m", "-c"):
        return False
    if args[1] == "-m" and args[2] not in ("bulkup", "bulkup.local"):
        return False
    env: Mapping[str, str] = os.environ if given["env"] is None else given["env"]
    asks = {name for name in env if name.startswith(("PYTHON", "LC_"))} - _HARMLESS
    return not asks and env.get("LANG", "UTF-8").upper().endswith(("UTF-8", "UTF8"))


def _forked(popen: subprocess.Popen[Any], given: Mapping[str, Any]) -> bool:
    """Make it the child of a fork. False: there is nothing here that can be forked."""
    theirs = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
    fds = [number if fd == -1 else fd for number, fd in enumerate(theirs)]
    request = {
        "args": [os.fsdecode(word) for word in given["args"][1:]],
        "cwd": os.fspath(given["cwd"] or os.getcwd()),
        "env": dict(os.environ if given["env"] is None else given["env"]),
        "own_session": given["start_new_session"],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "passed": list(given["pass_fds"]),
    }
    if not Path(request["cwd"]).is_dir():
        return False
    pid = _born(request, [*fds, *given["pass_fds"]])
    if pid is None:
        return False
    popen.pid = pid
    popen._child_created = True  # type: ignore[attr-defined]
    names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
    popen._close_pipe_fds(*(given[name] for name in names))  # type: ignore[attr-defined]
    return True


def _born(request: Mapping[str, Any], fds: Sequence[int]) -> int | None:
    if _is_born_here and _sibling is None:
        if len(os.listdir("/proc/self/task")) > 1:
            return None  # what other threads hold would stay locked in a fork
        pid = os.fork()
        if pid == 0:
            _become(request, [os.dup(fd) for fd in fds])
        return pid
    try:
        return (_sibling or _nursery()).born(request, fds)
    except (ConnectionError, BrokenPipeError):
        return None  # a signal to all processes of the group has ended it


class Nursery:
    """The process that is forked, a child of this one, and so are those that are born there."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(START_TIMEOUT_S)
        self._lock = threading.Lock()

    def born(self, request: Mapping[str, Any], fds: Sequence[int]) -> int:
        """The id of a new child of this process."""
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(request).encode()], list(fds))
            answer = self._connection.recv(100)
        if not answer:
            raise ConnectionError("the nursery has ended")
        return int(answer)

    def close(self) -> None:
        self._connection.close()


_first_use = threading.Lock()
_is_born_here = False
"""This process was forked from a nursery."""
_sibling: Nursery | None = None
"""In a process that will start workers when it has threads already: forked before."""


def _nursery() -> Nursery:
    with _first_use:  # several threads may be the first user at once
        return _started()


@functools.cache
def _started() -> Nursery:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a message a recv
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.nursery", str(theirs.fileno())],
        executable=sys.executable,
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    nursery = Nursery(ours)

    def end() -> None:
        nursery.close()
        process.wait(timeout=START_TIMEOUT_S)

    atexit.register(end)
    return nursery


def _serve(connection: socket.socket) -> None:
    """Start what is asked for, until the other end closes."""
    while True:
        request, fds, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 64)
        if not request:
            return
        pid = _fork_sibling()
        if pid == 0:
            connection.close()
            _become(json.loads(request), fds)
        for descriptor in fds:
            os.close(descriptor)
        connection.send(b"%d" % pid)


def _fork_sibling() -> int:
    """As os.fork, but the new process is a child of this one's parent, which waits for it."""
    python, syscall = ctypes.pythonapi, ctypes.PyDLL(None).syscall
    syscall.restype = ctypes.c_long
    python.PyOS_BeforeFork()
    flags = _CLONE_PARENT | signal.SIGCHLD
    pid: int = syscall(*map(ctypes.c_long, (_CLONE, flags, 0, 0, 0, 0)))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError("no process can be started")
    return pid


def _become(request: Mapping[str, Any], fds: Sequence[int]) -> NoReturn:
    """Run as `python ARGS` with these descriptors, in the folder and environment asked for."""
    code = 70
    try:
        _place(fds, request["passed"])
        if request["own_session"]:
            os.setsid()
        _forget_handlers()
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        _be_born(request["args"])
        code = _run(*request["args"])
    finally:
        os._exit(code)


def _place(fds: Sequence[int], passed: Sequence[int]) -> None:
    """Give each descriptor the number that the process expects it at, and close all others."""
    numbers = [0, 1, 2, *passed]
    free = 1 + max([*numbers, *fds])
    for place, fd in enumerate(fds):
        os.dup2(fd, free + place)
        os.close(fd)
    for place, number in enumerate(numbers):
        os.dup2(free + place, number)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in numbers:
            with contextlib.suppress(OSError):  # that of the folder that was listed
                os.close(fd)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        open(  # noqa: SIM115
            fd, "w", buffering=1 if fd == 2 or os.isatty(fd) else -1, closefd=False,
            encoding="utf-8", errors="strict" if fd == 1 else "backslashreplace",
        )
        for fd in (1, 2)
    )  # fmt: skip
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _forget_handlers() -> None:
    """As a new program: what was handled has its default again, what was ignored stays so."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            how = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, how)
    atexit._clear()


def _be_born(args: Sequence[str]) -> None:
    global _is_born_here, _sibling
    _is_born_here = True
    if not _WITH_WORKERS.intersection(args):
        _sibling = None
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        for fd in (0, 1, 2):  # whoever reads our output waits for its end
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)
        _serve(theirs)
        os._exit(0)
    theirs.close()
    _sibling = Nursery(ours)


def _run(how: str, what: str, *args: str) -> int:
    """As the interpreter would, to the exit code."""
    sys.path[0] = os.getcwd() if how == "-m" else ""
    if os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter("error", ResourceWarning)
    more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in more if path and path not in sys.path]
    sys.argv = [how, *args]
    code = 0
    try:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        if how == "-m":
            # What the interpreter calls; `run_module` looks at `sys.argv` once more at the end,
            # which an updater may have changed.
            runpy._run_module_as_main(what)  # type: ignore[attr-defined]
        else:
            exec(compile(what, "<string>", "exec"), main.__dict__)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


if __name__ == "__main__":
    from tests.cli import nursery  # itself, under the name that processes born here know it by

    for name in WARM:
        __import__(name)
    from bulkup.report.templating import compile_all

    compile_all()  # the end of each run needs some of them
    nursery.install()
    nursery._serve(socket.socket(fileno=int(sys.argv[1])))
