"""What the pages show: the runs of a state directory, and those that Datastore knows of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bulkup.core.errors import NotFoundError
from bulkup.core.model import RunState
from bulkup.core.records import is_run_id
from bulkup.core.steering import UNSTEERED, Steering, newest
from bulkup.runs.listing import DamagedRun, ListedRun, latest_first, run_in, runs_on
from bulkup.runs.target import TargetOptions
from bulkup.state.display import KILLED
from bulkup.state.files import CHECKPOINT_NAME, run_folders
from bulkup.state.steering import read_steering
from bulkup.web.ledger import LedgerView, LedgerWatch

_Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Overview:
    """All runs, the latest first, and the ledger if it was asked for."""

    runs: list[ListedRun | DamagedRun]
    ledger: LedgerView | None


class Board:
    """Only reads. If `target` is None, Datastore is not asked."""

    def __init__(self, state_dir: Path, target: TargetOptions | None, migrations: Path) -> None:
        self.state_dir = state_dir
        self.target = target
        self._ledger = None if target is None else LedgerWatch(target, migrations)
        self._known: dict[str, tuple[_Signature, ListedRun | DamagedRun]] = {}
        """Cache of the runs that no process works on, by folder: a state directory may hold
        thousands."""

    def overview(self, *, wait_s: float = 0.0) -> Overview:
        """`wait_s`: how long to wait for Datastore; what arrives later is in a later overview."""
        here = self._runs_here()
        ledger = self.ledger(wait_s=wait_s)
        if ledger is None or ledger.target is None:
            return Overview(here, ledger)
        return Overview(runs_on(ledger.target, ledger.records, here, ledger.now), ledger)

    def ledger(self, *, wait_s: float = 0.0) -> LedgerView | None:
        return None if self._ledger is None else self._ledger.view(wait_s=wait_s)

    def folder_of(self, run_id: str) -> Path | None:
        """The folder of a run; None if it is not in this state directory. Only a valid run id ever
        becomes part of a path."""
        if not is_run_id(run_id):
            return None
        folder = self.state_dir / run_id
        return folder if (folder / CHECKPOINT_NAME).is_file() else None

    def run(self, run_id: str, *, wait_s: float = 0.0) -> ListedRun | DamagedRun:
        """A run by its full id. Raises NotFoundError."""
        folder = self.folder_of(run_id)
        if folder is not None and self._ledger is None:
            return self._run_in(folder)
        for run in self.overview(wait_s=wait_s).runs:
            if isinstance(run, DamagedRun):
                if run.run_id == run_id:
                    return run
            elif run.run_info.run_id == run_id:
                return run
        raise NotFoundError(f"There is no run {run_id!r:.100} here.")

    def steering(self, run_id: str) -> Steering:
        """How a run is steered: the newest of what its folder and its records say."""
        folder, ledger = self.folder_of(run_id), self.ledger()
        known = [UNSTEERED if folder is None else read_steering(folder)]
        records = ledger.records if ledger is not None else ()
        known += [one.steering for one in records if one.run_info.run_id == run_id]
        return newest(*known)

    def steered(self) -> None:
        """Note that a run was steered, so that its record is read again."""
        if self._ledger is not None:
            self._ledger.expire()

    def _runs_here(self) -> list[ListedRun | DamagedRun]:
        runs, known = [], {}
        for folder in run_folders(self.state_dir):
            runs.append(self._run_in(folder))
            known[folder.name] = self._known.get(folder.name)
        self._known = {name: one for name, one in known.items() if one is not None}
        return latest_first(runs)

    def _run_in(self, folder: Path) -> ListedRun | DamagedRun:
        signature = _signature(folder)
        known = self._known.get(folder.name)
        if known is not None and known[0] == signature:
            return known[1]
        run = run_in(folder)
        # No file shows whether a run without an end was killed, so such a run is not cached.
        if isinstance(run, DamagedRun) or run.state not in (RunState.RUNNING.value, KILLED):
            self._known[folder.name] = signature, run
        else:
            self._known.pop(folder.name, None)
        return run


def _signature(folder: Path) -> _Signature:
    """Changes when one of the checkpoint's files changes."""
    found = []
    for name in (CHECKPOINT_NAME, f"{CHECKPOINT_NAME}-wal"):
        try:
            status = os.stat(folder / name)
        except FileNotFoundError:
            found.append((0, 0))
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)
