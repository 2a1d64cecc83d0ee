"""Says which before-images of a run are missing here."""

from __future__ import annotations

from collections.abc import Iterable

from bulkup.state.checkpoint import Checkpoint
from bulkup.state.range_folders import is_cut
from bulkup.state.undo_log import UndoLog

MOST_NAMED = 5
"""How many ranges a sentence names."""


def why_not_whole(checkpoint: Checkpoint, log: UndoLog) -> str:
    """Why a run whose before-images are not all here cannot be undone, and what to do instead."""
    run_id = checkpoint.run_info.run_id
    if is_cut(checkpoint.folder) or checkpoint.range_writes():
        others = (
            f", or put back the others nevertheless: `bulkup undo {run_id} --force`"
            if log.is_kept and log.missing < log.total
            else ""
        )
        return (
            f"run {run_id} was worked on in ranges, and {_lacking(log)}, so it cannot be undone; "
            f"use `bulkup rewind` where Datastore keeps the past{others}"
        )
    return (
        f"{log.missing:,} of the {log.total:,} before-images of run {run_id} are missing or "
        f"damaged in {str(checkpoint.folder)!r}, so it cannot be undone; to put back the "
        f"others nevertheless: `bulkup undo {run_id} --force`"
    )


def missing_changes(checkpoint: Checkpoint, log: UndoLog) -> str:
    """Which of a run's changes cannot be shown, as the beginning of a sentence."""
    run_id = checkpoint.run_info.run_id
    if is_cut(checkpoint.folder) or checkpoint.range_writes():
        return f"run {run_id} was worked on in ranges, and {_lacking(log)}"
    return (
        f"{log.missing:,} of the {log.total:,} changes of run {run_id} are missing or damaged in "
        f"{str(checkpoint.folder)!r}"
    )


def _lacking(log: UndoLog) -> str:
    named = _named(log.missing_in)
    if not named:
        what = "some of its before-images"
    elif log.missing > sum(log.missing_in.values()):
        what = f"the before-images of {named}, and some of others,"
    else:
        what = f"the before-images of {named}"
    return f"{what} are not in this state directory (entities: {log.missing:,} of {log.total:,})"


def _named(range_ids: Iterable[str]) -> str:
    """Names ranges by the numbers at the end of their ids: `3`, or `3.1` for a part of range 3."""
    numbers = [one.rpartition("-")[2].lstrip("0") for one in sorted(range_ids)]
    left = len(numbers) - MOST_NAMED
    if left > 1:
        numbers = [*numbers[:MOST_NAMED], f"{left:,} others"]
    if len(numbers) < 2:
        return "".join(f"range {number}" for number in numbers)
    return f"ranges {', '.join(numbers[:-1])} and {numbers[-1]}"
