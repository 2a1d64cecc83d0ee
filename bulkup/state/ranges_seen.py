"""The progress of a run in ranges, in `ranges.json` in its folder, for readers without Datastore.

The authority is Datastore. Each process of this machine that reads the run's record every few
seconds writes here what it has seen of the whole run, including the work of other machines. A
damaged file counts as missing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bulkup.core.model import Counts, RangesSeen
from bulkup.state.json_file import read_json, replace_json
from bulkup.state.range_folders import is_cut
from bulkup.state.record import RunRecord

SEEN_NAME = "ranges.json"


def seen_in(record: RunRecord) -> RangesSeen | None:
    """What the record of a run says about its ranges; None: nobody has conducted yet."""
    plan = record.ranges
    if plan is None or not plan.total:
        return None
    return RangesSeen(plan.finished, plan.total, record.counts, record.total, plan.at)


def note_seen(folder: Path, seen: RangesSeen | None) -> None:
    """Write what was seen to the folder, unless the folder has something newer. A folder that
    cannot be written to must not stop the work."""
    with suppress(OSError):
        there = _read(folder)
        if seen is not None and (there is None or _age(seen) > _age(there)):
            counts = seen.counts.stored()
            replace_json(folder / SEEN_NAME, {**vars(seen), "counts": counts})


def ranges_seen(folder: Path) -> RangesSeen | None:
    """What was last seen of a run that is not over. Without any ranges: the run is cut, but nothing
    more is known. None: as far as this machine knows, the run is not cut."""
    seen = _read(folder)
    return seen if seen is not None or not is_cut(folder) else RangesSeen()


def with_seen(seen: RangesSeen | None, counts: Counts, total: int | None) -> RangesSeen | None:
    """Add what the run's checkpoint knows: its counts if they are higher, its total if there is
    none."""
    if seen is None:
        return None
    most = max(seen.counts, counts, key=lambda one: one.handled)
    return replace(seen, counts=most, entities=total if seen.entities is None else seen.entities)


def _age(seen: RangesSeen) -> tuple[int, int, int]:
    return seen.at, seen.counts.handled, seen.finished


def _read(folder: Path) -> RangesSeen | None:
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        raw = read_json(folder / SEEN_NAME)
        entities = raw["entities"]
        seen = RangesSeen(
            _whole(raw["finished"]),
            _whole(raw["total"]),
            Counts(**{name: _whole(count) for name, count in raw["counts"].items()}),
            None if entities is None else _whole(entities),
            _whole(raw["at"]),
        )
        return seen if 0 <= seen.finished <= seen.total and 0 <= seen.at < _FAR else None
    return None


_FAR = 2**36


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a number is expected")
    return value
