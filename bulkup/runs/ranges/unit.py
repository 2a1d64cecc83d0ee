"""The unit of work for others: one range of a run, worked on wherever the caller is.

A `RangeWorker` is a process's connection to a run that is cut into ranges. It loads the updater and
connects once, and then works on one range after the other. What decides is in Datastore: whether a
range is free, what is done of it, whether the run is paused or stopped. So it does no harm to ask
for the same range twice, at the same time, or again after it is finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bulkup.core.model import Counts, TargetInfo
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.engine.options import Options

if TYPE_CHECKING:
    from bulkup.core.events import Listener


@dataclass(frozen=True)
class RangedWork:
    """All that a worker has to know of a run. It can be pickled."""

    run_id: str
    spec: str
    """What `authoring.loader.load` takes, where `source` is empty; else only its `:Name` counts."""
    checksum: str
    """SHA-256 of the updater's file, in hex. Empty: a built-in updater, which has none."""
    target: TargetInfo
    address: str = ""
    """host:port of an emulator or of an embedded Datastore; empty: the service."""
    params: Mapping[str, str] = field(default_factory=dict)
    selection: Selection = EVERYTHING
    options: Options = field(default_factory=Options)
    source: bytes = b""
    """The updater's file, which is written below the worker's scratch directory under its checksum;
    empty: the worker finds it under `spec`."""
    file_name: str = ""
    """The name of that file, without its folder."""


class RangeEnd(str, Enum):
    """What became of a range."""

    FINISHED = "finished"
    """Every entity in it is handled: by this call, or before."""
    HELD = "held"
    """Somebody else works on it, at least until `held_until`."""
    STOPPED = "stopped"
    """It is not finished, and nobody works on it: the run was stopped (the failure budget, a
    cancel), this worker was (`WorkingRange.stop`), or an error ended the work. What is done stays
    done, and whoever asks for the range again continues it."""


@dataclass(frozen=True)
class RangeResult:
    range_id: str
    end: RangeEnd
    counts: Counts = field(default_factory=Counts)
    """Of the whole range, by all who have worked on it."""
    held_until: float = 0.0
    """Unix time by the server's clock; 0: nobody holds it."""
    why: str = ""
    """A sentence without its end: why it is not finished."""
    run_is_over: bool = False
    """The run will not be worked on any more: it was stopped, cancelled, abandoned, or is finished.
    There is no use in asking for another range."""


@dataclass(frozen=True)
class RangeProgress:
    """How far a range is."""

    handled: int = 0
    share: float | None = None
    """How much of the range is behind the last handled entity, 0 to 1; None: not known."""


class WorkingRange:
    """A range while `RangeWorker.work_on` works on it, for other threads. Made by the caller, used
    for one call. Every method may be called at any time, before and after the work as well."""

    def try_split(self, fraction: float) -> str | None:
        """End the range early, and give the rest to a new one: the id of that new range, which is
        recorded by the time this returns. None: it was not split, and stays whole.

        `fraction`: how much of what is left this range keeps, 0 to 1. With 0 it ends after the
        last entity that was handled or handed out.
        """
        raise NotImplementedError

    def progress(self) -> RangeProgress:
        """How far the work is. Never waits."""
        raise NotImplementedError

    def stop(self, why: str) -> None:
        """Bring commits in flight to their end, and return STOPPED. Does not wait for that."""
        raise NotImplementedError


class RangeWorker:
    """Works on ranges of one run, from one thread at a time.

    `scratch`: a local directory for checkpoints and the updater's file. It may be lost at any time,
    and may be shared with other workers. Opening it raises BulkupError: the updater cannot be
    loaded, or is another one than the run's; the target cannot be reached.
    """

    def __init__(
        self, work: RangedWork, scratch: Path, listener: Listener = lambda event: None
    ) -> None:
        raise NotImplementedError

    def range_ids(self) -> list[str]:
        """All ranges of the run by now, in the order of their keys."""
        raise NotImplementedError

    def work_on(self, range_id: str, working: WorkingRange | None = None) -> RangeResult:
        """Work on a range until it is finished, or cannot be.

        Never raises for what the user's code does, for an exhausted failure budget, or for errors
        of Datastore. A range that is not in Datastore is STOPPED.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections."""
        raise NotImplementedError

    def __enter__(self) -> RangeWorker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
