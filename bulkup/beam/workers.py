"""This process's connection to the run whose ranges it works on.

A process works on one range at a time, whatever the number of its threads: an updater's code is
never called by two threads at once, as in `bulkup run`. Other threads wait, or give their range
back to the runner.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bulkup.core.events import Report
from bulkup.runs.ranges.unit import RangedWork, RangeEnd, RangeResult, RangeWorker, WorkingRange


class Workers:
    """Opened by the first DoFn of this process that is set up, closed with the last."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        """Held by the thread that works on a range."""
        self._changing = threading.Lock()
        self._users = 0
        self._work: RangedWork | None = None
        self._worker: RangeWorker | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._working: WorkingRange | None = None
        self._stopping = ""
        """Why this process accepts no further range; empty if it does."""

    def set_up(self) -> None:
        with self._changing:
            self._users += 1

    def tear_down(self) -> None:
        with self._changing:
            self._users -= 1
            if self._users > 0:
                return
        with self._busy:
            self._close()

    @contextmanager
    def alone(self, *, wait_s: float) -> Iterator[bool]:
        """Keep other threads of this process from working meanwhile. Yields False if another thread
        is still working after `wait_s` seconds."""
        free = self._busy.acquire(timeout=wait_s)
        try:
            yield free
        finally:
            if free:
                self._busy.release()

    def work_on(self, work: RangedWork, range_id: str, working: WorkingRange) -> RangeResult:
        """Work on a range; call it within `alone`.

        Raises BulkupError when the updater cannot be loaded here, or the target cannot be reached.
        """
        self._working = working
        try:
            if self._stopping:
                return RangeResult(range_id, RangeEnd.STOPPED, why=self._stopping)
            return self._open(work).work_on(range_id, working)
        finally:
            self._working = None

    def conclude(self, work: RangedWork) -> Report:
        """End the run, if its ranges are finished. Raises BulkupError as `work_on` does."""
        with self._busy:
            return self._open(work).conclude()

    def stop(self, why: str) -> None:
        """Stop the range in progress cleanly, and work on no other. Does not wait."""
        self._stopping = why
        if (working := self._working) is not None:
            working.stop(why)

    def _open(self, work: RangedWork) -> RangeWorker:
        if self._worker is None or self._work != work:
            self._close()
            self._scratch = tempfile.TemporaryDirectory(prefix="bulkup-")  # 0700
            self._worker = RangeWorker(work, Path(self._scratch.name))
            self._work = work
        return self._worker

    def _close(self) -> None:
        worker, scratch = self._worker, self._scratch
        self._worker = self._scratch = self._work = None
        try:
            if worker is not None:
                worker.close()
        finally:
            if scratch is not None:
                scratch.cleanup()


workers = Workers()
"""This process's connection. A module attribute, since DoFns are pickled and this cannot be."""
