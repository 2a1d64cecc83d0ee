"""Reads single keys during a run, without taking input from other readers of the terminal.

The terminal is in cbreak mode only during a run, and only while this process is in the foreground.
It is given back

- when other code uses `sys.stdin` (`input`, `pdb`, `breakpoint`), before it reads anything. From
  then on no keys are read: what is typed is meant for the debugger.
- when this process is stopped with Ctrl-Z; it is taken again when it continues in
  the foreground.
- when a key is pressed after other code has changed the terminal's mode or opened the terminal (as
  `getpass` does), or while a child process reads from it. The key is left to them.
- when the run ends, in whatever way: also after the second Ctrl-C, and when the interpreter
  exits. After SIGKILL and os._exit the shell restores it, as for any killed program.
"""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable
from typing import Any

WAITS_MS = 500
"""How soon to notice that we may read from the terminal again, or no longer may."""


class Keyboard:
    """Calls `on_key` with each key, on a thread. `stdin`: the descriptor to read from.

    Call `open` and `close` from the main thread; on another thread `open` does nothing.
    """

    def __init__(self, on_key: Callable[[str], None], stdin: int = 0) -> None:
        self._on_key = on_key
        self.on_continue: Callable[[], None] = lambda: None
        """Called in the signal handler when this process continues after it was stopped."""
        self._stdin = stdin
        self._before: list[Any] | None = None
        """The terminal's mode before we changed it; None while we have not changed it."""
        self._original: list[Any] | None = None
        """The same, kept until the end of the run."""
        self._ours: list[Any] = []
        self._handed: list[Any] = []
        """The mode in which the terminal was left to code that asks for a password."""
        self._gave_up = False
        self._wake: tuple[int, int] | None = None
        """A pipe while the keyboard is open; a byte in it ends the thread."""
        self._thread: threading.Thread | None = None
        self._signals: dict[int, Any] = {}
        self._pid = os.getpid()
        self._others: set[int] = set()
        """Descriptors of terminals that were open before."""

    def open(self) -> None:
        """Listen, if there is a terminal to listen to."""
        if self._wake is not None or self._gave_up or not self._may_open():
            return
        self._pid = os.getpid()
        self._wake = os.pipe()
        self._others = _terminals()
        for number, handler in (
            (signal.SIGTSTP, self._suspended),
            (signal.SIGCONT, self._continued),
        ):
            if signal.getsignal(number) is signal.SIG_DFL:  # else the updater has its own
                self._signals[number] = handler
                signal.signal(number, handler)
        sys.stdin = _Watched(sys.stdin, self.give_up)
        atexit.register(self.close)
        _open.append(self)
        self._take()
        self._thread = threading.Thread(target=self._listen, name="bulkup-keys", daemon=True)
        self._thread.start()

    def _may_open(self) -> bool:
        if threading.current_thread() is not threading.main_thread() or sys.stdin is None:
            return False
        try:
            return sys.stdin.fileno() == self._stdin and os.isatty(self._stdin)
        except (OSError, ValueError):  # closed, or replaced by something that is not a file
            return False

    def close(self) -> None:
        """Give the terminal back, and stop listening. May be called twice."""
        if os.getpid() != self._pid:
            return  # this is a fork by the updater, and the run still listens
        self._restore()  # first of all: another Ctrl-C may cut the rest short
        if self._wake is None:
            return
        reader, writer = self._wake
        self._wake = None
        os.write(writer, b"x")
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        os.close(writer)
        os.close(reader)
        for number, handler in self._signals.items():
            if signal.getsignal(number) == handler:
                signal.signal(number, signal.SIG_DFL)
        self._signals.clear()
        if isinstance(sys.stdin, _Watched):
            sys.stdin = sys.stdin._file
        atexit.unregister(self.close)
        with contextlib.suppress(ValueError):
            _open.remove(self)

    def give_up(self) -> None:
        """Leave the terminal to another reader, and read no more keys. May be called from any
        thread."""
        self._gave_up = True
        self._give_back()

    # --- the terminal's mode ---

    @property
    def _is_in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._stdin) == os.getpgrp()
        except OSError:  # hung up, or no longer the terminal of this session
            return False

    def _take(self) -> None:
        """Read single keys, without an echo that would appear in the bar. Ctrl-C and Ctrl-Z still
        work."""
        if self._gave_up or self._before is not None or not self._is_in_foreground:
            return
        with contextlib.suppress(termios.error):
            before = termios.tcgetattr(self._stdin)
            mode = [*before]
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            mode[6] = [*before[6]]
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            self._before = self._original = before  # first, in case a signal comes in between
            termios.tcsetattr(self._stdin, termios.TCSANOW, mode)
            self._ours = termios.tcgetattr(self._stdin)

    def _give_back(self) -> None:
        before, self._before = self._before, None
        # In the background, setting the mode would stop this process; leave it to the shell then.
        if before is None or not self._is_in_foreground:
            return
        with contextlib.suppress(termios.error):
            if termios.tcgetattr(self._stdin) == self._ours:  # else other code has set it
                termios.tcsetattr(self._stdin, termios.TCSANOW, before)

    def _hand_over(self) -> None:
        """Leave the terminal to code that asks for a password: in line mode, so that the input can
        be edited, and still without echo. Afterwards that code restores the mode it found, which is
        ours."""
        before, self._before, self._gave_up = self._before, None, True
        if before is not None:
            self._handed = [*before]
            self._handed[3] &= ~termios.ECHO
            with contextlib.suppress(termios.error):  # hung up
                termios.tcsetattr(self._stdin, termios.TCSANOW, self._handed)
                self._handed = termios.tcgetattr(self._stdin)

    def _restore(self) -> None:
        """Restore the original mode at the end, unless other code has set a mode of its own."""
        self._give_back()
        if self._original is not None and self._is_in_foreground:
            with contextlib.suppress(termios.error):
                if termios.tcgetattr(self._stdin) in (self._ours, self._handed):
                    termios.tcsetattr(self._stdin, termios.TCSANOW, self._original)
        self._original = None  # last: if a Ctrl-C cuts this short, `close` is called again

    # --- signals ---

    def _suspended(self, number: int, frame: object) -> None:
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_kill(threading.get_ident(), number)
        # The process stops in that call, unless nobody could continue it: then nothing happens.
        self._continued(number, frame)

    def _continued(self, number: int, frame: object) -> None:
        suspended = self._signals.get(signal.SIGTSTP)
        if suspended is not None and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, suspended)
        with contextlib.suppress(termios.error):
            if termios.tcgetattr(self._stdin) != self._ours:
                # Perhaps it was stopped by SIGSTOP, and the shell has set a mode of its own.
                self._before = None
        self._take()
        self.on_continue()

    # --- the thread ---

    def _listen(self) -> None:
        # Reading in the background then fails instead of stopping this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        assert self._wake is not None
        reader = self._wake[0]
        woken, either = select.poll(), select.poll()
        for poll in (woken, either):
            poll.register(reader, select.POLLIN)
        either.register(self._stdin, select.POLLIN)
        while not self._gave_up:
            ready = (either if self._may_read else woken).poll(WAITS_MS)
            if any(descriptor == reader for descriptor, _ in ready):
                return
            if self._may_read and _terminals() - self._others:
                # There may be no key left: the code that asks for a password may have read it
                # first.
                self._hand_over()
                return
            if ready and self._may_read and not self._hear():
                return

    @property
    def _may_read(self) -> bool:
        return self._before is not None and self._is_in_foreground

    def _hear(self) -> bool:
        """Read one key and report it; returns False when no more keys can come."""
        try:
            if self._gave_up:
                return False
            if self._is_read_by_others():
                self.give_up()
                return False
            typed = os.read(self._stdin, 1)
        except (OSError, termios.error):
            return False
        if not typed:
            return False  # hung up
        self._on_key(typed.decode("ascii", "replace"))
        return True

    def _is_read_by_others(self) -> bool:
        """Whether the key may be meant for another reader: code that has changed the terminal's
        mode, or a child process whose standard input is this terminal."""
        if termios.tcgetattr(self._stdin) != self._ours:
            return True
        name = os.ttyname(self._stdin)
        return any(_standard_input(child) == name for child in _children())


def _terminals() -> set[int]:
    """Descriptors of terminals that this process has open, besides the standard ones."""
    found = set()
    with contextlib.suppress(OSError):  # a system without this folder
        for number in map(int, os.listdir("/dev/fd")):
            if number > 2 and os.isatty(number):
                found.add(number)
    return found


def _children() -> list[str]:
    """Ids of child processes, on systems that list them."""
    found = []
    for path in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError), open(path) as file:
            found += file.read().split()
    return found


def _standard_input(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/fd/0")
    except OSError:  # it has ended, or belongs to another user
        return ""


class _Watched:
    """Stands in for `sys.stdin`, and calls `before_use` before anything reads from it."""

    def __init__(self, file: Any, before_use: Callable[[], None]) -> None:
        self._file = file
        self._before_use = before_use

    def __getattr__(self, name: str) -> Any:
        if name not in ("isatty", "encoding", "errors", "name", "mode", "closed"):
            self._before_use()
        return getattr(self._file, name)

    def __iter__(self) -> Any:
        self._before_use()
        return iter(self._file)

    def __next__(self) -> Any:
        self._before_use()
        return next(self._file)

    def __enter__(self) -> Any:
        self._before_use()
        return self._file.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)


_open: list[Keyboard] = []


def _forked() -> None:
    """The updater has forked this process: the terminal belongs to the run, not to the child."""
    for keyboard in _open:
        for number in keyboard._signals:
            signal.signal(number, signal.SIG_DFL)
        if isinstance(sys.stdin, _Watched):
            sys.stdin = sys.stdin._file
    _open.clear()


os.register_at_fork(after_in_child=_forked)
