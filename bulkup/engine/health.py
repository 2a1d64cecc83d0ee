"""Health checks: whether a run may work now, asked every ten seconds.

Each check runs on a thread of its own, and the run only looks at its last answer. So a check that
hangs holds the run, but blocks neither the renewals of its lease nor Ctrl-C. A check that has not
answered in time counts as a no; it is not asked again until it has answered.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import inspect
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from http.client import HTTPException
from typing import IO, Any, Protocol
from urllib.error import URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from bulkup.authoring.updater import Updater
from bulkup.core.secrets import without_secrets
from bulkup.core.user_traceback import MAX_LINE_CHARS, encodable, error_line
from bulkup.core.vitals import Phase
from bulkup.datastore.causes import is_loopback
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.user_client import CheckClient
from bulkup.engine.checks import read_check
from bulkup.engine.holding import Reason
from bulkup.engine.options import checked_url

ASK_EVERY_S = 10.0
ANSWER_WITHIN_S = 10.0
"""A check that takes longer counts as a no."""
START_WITHIN_S = 1.0
"""How long the end of a run waits for a command that is just being started."""


class Check(Protocol):
    """One question. Called on a thread of its own, and never twice at once."""

    name: str
    """As it is used in a sentence: `the health check of AddName`."""

    def ask(self) -> str:
        """Why the run must not work now; empty if it may."""

    def abort(self) -> None:
        """Give up the question in progress: nobody waits for its answer any more."""

    def close(self) -> None:
        """The run has ended. Nothing is asked any more, and what is being asked is aborted."""


class HealthGate:
    """Holds the run until each of the checks has said yes."""

    def __init__(self, checks: Sequence[Check], monotonic: Callable[[], float]) -> None:
        self._watches = [_Watch(check, monotonic) for check in checks]

    def reason(self) -> Reason | None:
        for watch in self._watches:
            why = watch.why()
            if why:
                return Reason(Phase.HELD, why, gives_up=True, is_short=not watch.has_answered)
        return None

    def close(self) -> None:
        for watch in self._watches:
            watch.close()


class _Watch:
    """Asks one check again and again, from the first call of `why` on."""

    def __init__(self, check: Check, monotonic: Callable[[], float]) -> None:
        self._check = check
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._asked_at: float | None = None
        """When the check was asked; None if it was not asked, or has answered."""
        self._is_late = self.has_answered = False
        self._why = f"{check.name} has not answered yet"

    def why(self) -> str:
        if self._thread is None:
            self._asked_at = self._monotonic()
            self._thread = threading.Thread(target=self._watch, name="bulkup-health", daemon=True)
            self._thread.start()
        asked_at = self._asked_at
        if asked_at is not None and self._monotonic() - asked_at >= ANSWER_WITHIN_S:
            if not self._is_late:
                self._is_late = True
                self._check.abort()
            return f"{self._check.name} has not answered for {ANSWER_WITHIN_S:.0f} s"
        return self._why

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._asked_at, self._is_late = self._monotonic(), False
            try:
                why = self._check.ask()
            except BaseException as error:
                why = f"{self._check.name} raised {error_line(error)}"
            self._why, self._asked_at = without_secrets(encodable(why)), None
            self.has_answered = True
            self._closing.wait(ASK_EVERY_S)

    def close(self) -> None:
        self._closing.set()
        self._check.close()


class UpdaterCheck:
    """The updater's `healthy`, on a copy of the updater whose client has its own connection,
    because handlers run at the same time."""

    def __init__(self, updater: Updater, name: str, rpc: Rpc) -> None:
        self.name = f"healthy of {name}"
        self._copy: Any = copy.copy(updater)
        self._rpc = rpc

    def ask(self) -> str:
        own = self._rpc.beside()
        with closing(own):
            self._copy.client = CheckClient.over(own, self._copy.client)
            result = self._copy.healthy()
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
        found = read_check(result)
        return "" if found is None else f"{self.name} {found[0]}"

    def abort(self) -> None:
        """Nothing to do: the user's code cannot be stopped, and its thread does not keep the
        process alive."""

    def close(self) -> None:
        """Nothing to do; see `abort`."""


class UrlCheck:
    """`--health-url`: any answer of 200 to 299 is a yes.

    A user name and a password in the URL are sent as a header. Neither they nor the URL's query are
    shown.
    """

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self.name = f"the health check {shown_url(url)}"

    def ask(self) -> str:
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
        request = Request(url)  # noqa: S310 - checked_url allows HTTP alone
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            token = base64.b64encode(pair.encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        opener = OpenerDirector()
        # No handler that follows redirects: one could send the password anywhere.
        handlers: list[Any] = [HTTPHandler(), HTTPSHandler()]
        if not is_loopback(host):
            handlers.append(ProxyHandler())
        for handler in handlers:
            opener.add_handler(handler)
        try:
            with opener.open(request, timeout=ANSWER_WITHIN_S / 2) as answer:
                status: int = answer.status
                if 200 <= status < 300:
                    return ""
                return f"{self.name} says {status} {answer.reason}"[:MAX_LINE_CHARS]
        except URLError as error:
            return f"{self.name} cannot be reached: {error.reason}"[:MAX_LINE_CHARS]
        except TimeoutError:
            return f"{self.name} has not answered for {ANSWER_WITHIN_S / 2:.0f} s"
        except (OSError, ValueError, HTTPException) as error:
            return f"{self.name} cannot be reached: {type(error).__name__}"

    def abort(self) -> None:
        """Nothing to do: its own time limit ends it."""

    def close(self) -> None:
        """Nothing to do; see `abort`."""


_WATCHED = """
exec 3<&0 4>&2 2>/dev/null
(read -r _ <&3; kill -KILL 0) &
(exec /bin/sh -c "$1" 3<&- 2>&4 4>&- </dev/null)
code=$?
kill -KILL $!
wait $!
exit $code
"""
"""Runs a command beside a watcher, which reads from a pipe to this process. The pipe closes when
this process ends, however it ends. Then the watcher kills the process group: the command, what it
has started, and itself. The shell waits for the watcher: in a container, bulkup may be the process
that inherits orphans, and it does not reap them."""


class CommandCheck:
    """`--health-cmd`: a command that /bin/sh runs; exit code 0 is a yes. It has its own process
    group, so Ctrl-C does not reach it. When it is aborted, or this process is killed, everything
    that it has started ends too."""

    def __init__(self, command: str) -> None:
        self.name = "the health command"
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._starting = threading.Lock()

    def ask(self) -> str:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            with self._starting:
                if self._is_closed:
                    return f"{self.name} was not started, because the run has ended"
                self._process = process = subprocess.Popen(  # noqa: S603 - the user's own command
                    ["/bin/sh", "-c", _WATCHED, "sh", self._command], start_new_session=True,
                    stdin=subprocess.PIPE, stdout=output, stderr=errors,
                )  # fmt: skip
            with process:
                code = process.wait()
            self._process = None
            if code == 0:
                return ""
            last = _last_line(errors) or _last_line(output)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}{': ' if last else ''}{last}"[:MAX_LINE_CHARS]

    def abort(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._is_closed = True
        # A command that is just being started has no process to kill yet, and would outlive this
        # process.
        if self._starting.acquire(timeout=START_WITHIN_S):
            self._starting.release()
        self.abort()


def _last_line(file: IO[bytes]) -> str:
    """The last line that is not blank; empty if there is none."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
    lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def shown_url(url: str) -> str:
    """The URL without what may be a secret: user, password, query."""
    parts = urlsplit(url)
    more = "?…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) + more
