"""What a server does between calls: checkpoint, write pending rows when idle,
delete old versions."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

from bulkup.local.packing import unpack
from bulkup.local.storage import HISTORY_MICROS, Storage

_log = logging.getLogger(__name__)

_SWEEP_ROWS = 500
"""Past entities deleted per transaction, so that writers wait only a few milliseconds."""
_SWEEP_SECONDS = 30
_IDLE_SECONDS = 2.0
"""Pending rows are written after this long without a write, so that no query waits for them."""


class Housekeeper:
    """A thread that keeps a storage in order, from the start until `stop`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        self._stopping.set()
        self._storage.wants_checkpoint.set()

    def stop(self) -> None:
        self.begin_stop()
        self._thread.join()

    def _run(self) -> None:
        storage, stopping = self._storage, self._stopping
        swept = time.monotonic()
        while not stopping.is_set():
            try:
                if storage.wants_checkpoint.wait(_IDLE_SECONDS):
                    storage.checkpoint()
                while not stopping.is_set() and storage.write_pending_if_idle(_IDLE_SECONDS):
                    pass
                if time.monotonic() - swept >= _SWEEP_SECONDS:
                    swept = time.monotonic()
                    while not stopping.is_set() and sweep(storage):
                        pass
            except sqlite3.Error as error:
                # A full disk, for example. Calls that fail for the same reason report it.
                _log.warning("could not tidy up %s: %s", storage.path, error)
                stopping.wait(_SWEEP_SECONDS)


def sweep(storage: Storage) -> bool:
    """Delete some of the versions older than the history. Returns True while there may be more."""
    horizon = storage.clock() - HISTORY_MICROS
    # Rows are in the order in which they became old versions.
    with storage.reader() as db:
        oldest = db.execute("SELECT until FROM entities_past ORDER BY rowid LIMIT 1").fetchone()
    if oldest is None or oldest[0] > horizon:
        return False
    with storage.writing() as (db, _):
        rows = db.execute(
            "SELECT rowid, path, until, packed FROM entities_past ORDER BY rowid LIMIT ?",
            (_SWEEP_ROWS,),
        ).fetchall()
        for rowid, path, until, packed in rows:
            if until > horizon:
                return False
            db.executemany(
                "DELETE FROM entries WHERE slot = ? AND value = ? AND path = ? AND until <= ?",
                [(slot, value, path, until) for slot, value in unpack(packed)],
            )
            db.execute("DELETE FROM entities_past WHERE rowid = ?", (rowid,))
    return len(rows) == _SWEEP_ROWS
