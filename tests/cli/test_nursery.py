"""A process that is forked from the warm one is like one that is started from nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import os, sys
print(os.getppid(), os.getcwd(), sys.argv, sys.path[0] == '', os.environ.get('GIVEN'))
print(sys.stdin.read(), sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])
print(os.getsid(0) == os.getpid(), __name__, os.read(int(sys.argv[1]), 10))
print('to the other one', file=sys.stderr)
sys.exit(7)
"""


def looked(folder: Path, executable: str | None) -> tuple[int, str, str]:
    reading, writing = os.pipe()
    os.write(writing, b"passed")
    os.close(writing)
    high = os.dup2(reading, 40, inheritable=False)
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(high)],
        executable=executable, cwd=folder, env={"GIVEN": "yes"}, input="typed", text=True,
        capture_output=True, pass_fds=[high], start_new_session=True,
    )  # fmt: skip
    os.close(high)
    return done.returncode, done.stdout, done.stderr


def test_it_sees_what_a_new_interpreter_sees(tmp_path: Path) -> None:
    warm = looked(tmp_path, None)
    assert warm == looked(tmp_path, sys.executable)
    assert warm[0] == 7
    assert warm[1].startswith(f"{os.getpid()} {tmp_path} ")


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import sys; sys.exit('a reason')", 1, "a reason"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import atexit; atexit.register(print, 'at the end')", 0, "at the end"),
    ],
)
def test_it_ends_like_one(source: str, code: int, says: str) -> None:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
