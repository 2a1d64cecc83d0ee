"""The embedded Datastore as a server on this machine."""

from __future__ import annotations

import gc
import logging
import sqlite3
import sys
import threading
import time
from pathlib import Path

from bulkup.local.endpoint import HOST, Endpoint
from bulkup.local.service import SERVICE, Service
from bulkup.local.storage import Storage

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 5
_SWEEP_SECONDS = 30
_IDLE_SECONDS = 2.0
"""Nobody has written for so long: rows that are pending are made now, so that no query waits."""

_SWITCH_SECONDS = 0.0005
"""How long one thread keeps the interpreter. SQLite gives it up at every row, and would wait the
default 5 ms to get it back."""
_COLLECT_EVERY = 100_000
"""Objects made before Python looks for cycles among them. A commit makes tens of thousands, all
free of cycles."""


def dedicate_process() -> None:
    """Tune the interpreter for a process whose one purpose is to serve."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 100)


class DatastoreServer:
    """Serves one file. Raises StateError when the file cannot be opened, TargetError when the port
    is taken.

    `host` is what DATASTORE_EMULATOR_HOST must be.
    """

    def __init__(self, path: str | Path, *, port: int = 0, storage: Storage | None = None) -> None:
        self.storage = storage or Storage(path)
        self._stopping = threading.Event()
        try:
            self._endpoint = Endpoint(port, SERVICE, Service(self.storage).methods())
        except BaseException:
            self.storage.close()
            raise
        self.port = self._endpoint.port
        self.host = f"{HOST}:{self.port}"
        self._sweeper = threading.Thread(target=self._sweep, name="sweep", daemon=True)
        self._sweeper.start()

    def _sweep(self) -> None:
        swept = time.monotonic()
        while not self._stopping.is_set():
            try:
                if self.storage.wants_checkpoint.wait(_IDLE_SECONDS):
                    self.storage.checkpoint()
                while not self._stopping.is_set() and self.storage.settle_if_idle(_IDLE_SECONDS):
                    pass
                if time.monotonic() - swept >= _SWEEP_SECONDS:
                    swept = time.monotonic()
                    while not self._stopping.is_set() and self.storage.sweep():
                        pass
            except sqlite3.Error as error:
                # A full disk, say. What is asked of us meanwhile says so itself.
                _log.warning("could not tidy up %s: %s", self.storage.path, error)
                self._stopping.wait(_SWEEP_SECONDS)

    def stop(self) -> None:
        """Finish the calls that are running, and close the file; a second time does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.storage.wants_checkpoint.set()
        self._endpoint.stop(_GRACE_SECONDS)
        self._sweeper.join()
        self.storage.close()

    def __enter__(self) -> DatastoreServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
