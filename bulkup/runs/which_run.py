"""Finds the run that the user means by no id, or by the beginning of an id that several runs
share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bulkup.core.errors import StateError, UsageError
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import undoes
from bulkup.state.files import CHECKPOINT_NAME, run_folders

MOST = 200
"""How many runs are searched for one to propose, the latest first."""


@dataclass(frozen=True)
class Purpose:
    """What a command needs a run for."""

    command: str
    what: str
    """What is true of a run that fits, as in `the latest one that can be undone`."""
    suits: Callable[[Checkpoint], bool]

    def fits(self, folder: Path) -> bool:
        """Whether the run in this folder may be meant. A damaged one may not."""
        try:
            with closing(Checkpoint.open(folder, check=False)) as checkpoint:
                return self.suits(checkpoint)
        except StateError:
            return False

    def missing(self, state_dir: Path) -> UsageError:
        """The error for a command without RUN: it names the run that is likely meant."""
        folder = next((one for one in _latest_first(state_dir) if self.fits(one)), None)
        if folder is None:
            return UsageError(
                f"{self.command} needs RUN, the id of a run, and no run in {str(state_dir)!r} is "
                f"one that {self.what}; `bulkup list` shows what is there"
            )
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            run_info = checkpoint.run_info
        return UsageError(
            f"{self.command} needs RUN, the id of a run; the latest one that {self.what} is "
            f"{run_info.run_id} of {run_info.updater}: `bulkup {self.command} {run_info.run_id}`"
        )


def is_undone(checkpoint: Checkpoint) -> bool:
    status = checkpoint.status()
    return bool(status.brought_back_by or status.undone_by) and not status.partly


def _can_undo(checkpoint: Checkpoint) -> bool:
    is_undo = undoes(checkpoint.run_info) is not None
    return bool(checkpoint.done().writes) and not is_undo and not is_undone(checkpoint)


def _can_retry(checkpoint: Checkpoint) -> bool:
    return checkpoint.status().state.is_over and checkpoint.has_failures_to_retry()


def _is_unfinished(checkpoint: Checkpoint) -> bool:
    return not checkpoint.status().state.is_over


UNDO = Purpose("undo", "can be undone", _can_undo)
RETRY = Purpose("retry", "has failures", _can_retry)
ABANDON = Purpose("abandon", "is unfinished", _is_unfinished)
UNLOCK = Purpose("unlock", "is unfinished", _is_unfinished)
RESUME = Purpose("resume", "is unfinished", _is_unfinished)


def _latest_first(state_dir: Path) -> list[Path]:
    folders = run_folders(state_dir)
    folders.sort(key=lambda one: (one / CHECKPOINT_NAME).stat().st_mtime_ns, reverse=True)
    return folders[:MOST]
