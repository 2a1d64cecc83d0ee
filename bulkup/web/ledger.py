"""What Datastore knows about runs and migrations, read in the background and cached."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bulkup.core.errors import BulkupError
from bulkup.core.model import TargetInfo
from bulkup.core.user_traceback import error_line
from bulkup.local.sharing import served_by
from bulkup.migrations.connect import open_ledger
from bulkup.migrations.folder import read_folder
from bulkup.migrations.lock import LOCK_ID
from bulkup.migrations.status import FolderStatus
from bulkup.runs.target import TargetOptions
from bulkup.state.record import RunRecord

EVERY_S = 10.0
"""How often it is read while somebody watches. This is billed: one read for each run."""
SERVED_EVERY_S = 2.0
"""The same for an embedded Datastore, where reading costs nothing."""


@dataclass(frozen=True)
class LedgerView:
    """The ledger as last read."""

    target: TargetInfo | None = None
    """None if it has not been read yet."""
    records: tuple[RunRecord, ...] = ()
    migrations: FolderStatus | None = None
    now: float = 0.0
    """The server's time."""
    error: str = ""
    """Why the last attempt to read it failed."""
    folder_error: str = ""
    """Why the folder of migrations cannot be read."""


class LedgerWatch:
    """The ledger of one target, together with a folder of migrations."""

    def __init__(self, options: TargetOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._view = LedgerView()
        self._lock = threading.Lock()
        self._read_at = 0.0
        self._reading: threading.Event | None = None
        """Set when the read in progress has ended; None if there is none."""

    def view(self, *, wait_s: float = 0.0) -> LedgerView:
        """The ledger as last read. If that was long ago, starts to read it again.

        `wait_s`: how long to wait for the new view, for a user who has just opened a page. If it is
        not 0, the ledger is read again unless that was done less than SERVED_EVERY_S ago.
        """
        with self._lock:
            if self._reading is None and self._is_due(is_asked=wait_s > 0):
                self._reading = threading.Event()
                threading.Thread(target=self._read, name="bulkup-ledger", daemon=True).start()
            reading = self._reading
        if reading is not None and wait_s:
            reading.wait(wait_s)
        return self._view

    def expire(self) -> None:
        """Note that something was changed, so that the next `view` reads the ledger again."""
        with self._lock:
            self._read_at = 0.0

    def _is_due(self, *, is_asked: bool) -> bool:
        age_s = time.monotonic() - self._read_at if self._read_at else EVERY_S
        if age_s < SERVED_EVERY_S:
            return False
        if self._options.local is None:
            return is_asked or age_s >= EVERY_S
        # Reading a file that no process serves opens it for a moment, and a run that starts in that
        # moment would be refused. So read such a file only when a user asks.
        return is_asked or served_by(self._options.local) is not None

    def _read(self) -> None:
        try:
            view = self._read_now()
        except BulkupError as error:
            view = replace(self._view, error=error.message)
        except Exception as error:  # a bug, or a damaged file: pages must not wait forever
            view = replace(self._view, error=f"it cannot be read ({error_line(error)})")
        with self._lock:
            self._view, self._read_at = view, time.monotonic()
            assert self._reading is not None
            self._reading.set()
            self._reading = None

    def _read_now(self) -> LedgerView:
        with open_ledger(self._options, only_reads=True) as (ledger, target):
            every = [r for r in ledger.all_records() if r.run_info.run_id != LOCK_ID]
            now = ledger.server_time.now()
        view = LedgerView(target, tuple(every), now=now)
        try:
            folder = read_folder(self._folder, "bulkup serve --all --folder DIR")
            of_migrations = [record for record in every if record.migration is not None]
            return replace(view, migrations=FolderStatus(folder, of_migrations, target, now))
        except BulkupError as error:
            return replace(view, folder_error=error.message)
