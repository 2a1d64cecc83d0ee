"""A user at a terminal: a `bulkup` in the foreground of a pseudo-terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tests.cli.shell import Shell
from tests.report.screens import Terminal

_MAIN = """
import fcntl, os, runpy, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal is that of this session, which has just begun
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child:  # as a shell does: without a parent in its session, Ctrl-Z could not stop it
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
os.setpgid(0, 0)
os.tcsetpgrp(0, os.getpid())
signal.signal(signal.SIGTTOU, signal.SIG_DFL)
sys.argv = ["bulkup", *{words!r}]
runpy.run_module("bulkup", run_name="__main__")
"""
TIMEOUT_S = 60
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class AtTerminal:
    """Started from a warm process; ended and closed with the block."""

    def __init__(self, shell: Shell, *words: object, columns: int = 80, rows: int = 24) -> None:
        self.screen = Terminal(columns, rows)
        self.output = ""
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._follower = follower
        self.mode: list[Any] = termios.tcgetattr(follower)
        """As it was before."""
        environment = {**shell.environment, "TERM": "xterm-256color", "COLUMNS": str(columns)}
        environment["LINES"] = str(rows)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN.format(words=[*map(str, words)])],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=shell.folder,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> AtTerminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._leader)
        os.close(self._follower)

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    @property
    def is_as_it_was(self) -> bool:
        """The terminal's mode is the one that it had before the command."""
        return termios.tcgetattr(self._follower) == self.mode

    @property
    def hears_keys(self) -> bool:
        """Single keys are read, and not echoed."""
        return not termios.tcgetattr(self._follower)[3] & (termios.ICANON | termios.ECHO)

    @property
    def reads_lines(self) -> bool:
        """A line can be edited before it is read."""
        return bool(termios.tcgetattr(self._follower)[3] & termios.ICANON)

    def until(self, condition: Callable[[AtTerminal], object]) -> None:
        """Read what is printed until this holds."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition(self):
            assert time.monotonic() < deadline, f"{self.screen}\n{self.output[-3000:]!r}"
            self.read(0.05)

    def sees(self, text: str) -> None:
        """Wait until this has been printed, without regard to colours."""
        self.until(lambda terminal: text in terminal.plain)

    @property
    def plain(self) -> str:
        return _ESCAPE.sub("", self.output)

    def read(self, seconds: float) -> None:
        """What arrives within this time at the latest."""
        ready, _, _ = select.select([self._leader], [], [], seconds)
        if ready:
            chunk = os.read(self._leader, 65536).decode(errors="replace")
            self.output += chunk
            self.screen.feed(chunk)

    def ended(self) -> int:
        """Wait for the end of the command; return its exit code."""
        self.until(lambda terminal: terminal.process.poll() is not None)
        self.read(0)
        return self.process.returncode
