"""A server that kills the process of a pass at one of its commits: right before the commit is
applied, or right after it, so that the answer is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bulkup.local import messages as m
from bulkup.local.requests import Call
from bulkup.local.server import DatastoreServer
from bulkup.local.status import unavailable
from bulkup.state.kinds import OWN_KINDS


@dataclass(frozen=True)
class KillAt:
    """Kill a process at its first commit once all processes together have written this many
    entities."""

    writes: int
    after: bool


class KillingServer:
    """Serves a copy; a context manager."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Condition()
        self._in_progress = 0
        self._at: KillAt | None = None
        self._kill: Callable[[], None] = lambda: None
        self._writes = 0
        self._server = DatastoreServer(path, watch=self._watched)

    @property
    def host(self) -> str:
        return self._server.host

    def __enter__(self) -> KillingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def arm(self, at: KillAt | None, kill: Callable[[], None]) -> None:
        """Choose when to `kill` the next process, at one of its commits; None: let it live."""
        with self._lock:
            self._at, self._kill = at, kill

    def writes(self) -> int:
        """Entities written or deleted so far, not counting bulkup's own. Waits for the commits in
        progress."""
        with self._lock:
            self._lock.wait_for(lambda: not self._in_progress)
            return self._writes

    def _watched(self, commit: Call) -> Call:
        def apply(raw: bytes) -> bytes:
            answer = commit(raw)
            written = _entities_in(raw)
            with self._lock:
                self._writes += written
            return answer

        def counted(raw: bytes) -> bytes:
            with self._lock:
                self._in_progress += 1
            try:
                return call(raw)
            finally:
                with self._lock:
                    self._in_progress -= 1
                    self._lock.notify_all()

        def call(raw: bytes) -> bytes:
            with self._lock:
                at, kill = self._at, self._kill
                is_it = at is not None and self._writes >= at.writes
                if is_it:
                    self._at = None
            if at is None or not is_it:
                return apply(raw)
            if at.after:
                apply(raw)
            kill()
            raise unavailable("The client was killed.")

        return counted


def _entities_in(raw: bytes) -> int:
    """How many entities a commit writes or deletes, not counting bulkup's own."""
    keys = []
    for mutation in m.CommitRequest.FromString(raw).mutations:
        which = mutation.WhichOneof("operation")
        keys.append(mutation.delete if which == "delete" else getattr(mutation, which).key)
    return sum(key.path[-1].kind not in OWN_KINDS for key in keys)


def kills_of(writes: int, kills: int) -> list[KillAt]:
    """The moments at which to kill a run that writes `writes` entities: the first right at the
    beginning, the last when all are written but the run has not ended, the others in between. Two
    are in the middle and at the end, one is in the middle."""
    parts = max(kills - 1, 2)
    numbers = range(kills) if kills > 2 else range(1, kills + 1)
    return [KillAt(writes * number // parts, after=number % 2 == 0) for number in numbers]
