"""The embedded Datastore as a server on this machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

from bulkup.local.endpoint import HOST, Endpoint
from bulkup.local.housekeeping import Housekeeper
from bulkup.local.requests import Call
from bulkup.local.service import SERVICE, Service
from bulkup.local.storage import Storage

_GRACE_SECONDS = 5

_SWITCH_SECONDS = 0.0005
"""How long one thread keeps the interpreter. SQLite releases it at every row, and would wait the
default 5 ms to get it back."""
_COLLECT_EVERY = 100_000
"""New objects before Python searches them for reference cycles. A commit makes tens of thousands,
none of them in a cycle."""


def dedicate_process() -> None:
    """Tune the interpreter of a process that only serves."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 100)


class DatastoreServer:
    """Serves one file until `stop`; a context manager that stops it.

    `host` is the value for DATASTORE_EMULATOR_HOST. Raises StateError when the file cannot be
    opened, TargetError when the port is taken.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        port: int = 0,
        storage: Storage | None = None,
        watch: Callable[[Call], Call] | None = None,
    ) -> None:
        """`watch` is given the Commit call, and returns what to call instead."""
        self.storage = storage or Storage(path)
        try:
            methods = Service(self.storage).methods()
            if watch is not None:
                methods["Commit"] = watch(methods["Commit"])
            self._endpoint = Endpoint(port, SERVICE, methods)
        except BaseException:
            self.storage.close()
            raise
        self.port = self._endpoint.port
        self.host = f"{HOST}:{self.port}"
        self.storage.announce(self.port)
        self._housekeeper = Housekeeper(self.storage)
        self._stopped = False

    def stop(self) -> None:
        """Finish the calls in progress and close the file. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._housekeeper.begin_stop()
        self._endpoint.stop(_GRACE_SECONDS)
        self._housekeeper.stop()
        self.storage.close()

    def __enter__(self) -> DatastoreServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
