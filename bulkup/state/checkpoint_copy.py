"""Turns a run's checkpoint into JSON for a bundle, and makes a copy from that JSON.

The copy reports the same about the run as the original. It cannot be resumed: it does not know
where the shards are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import NoneType
from typing import Any

from bulkup.core.model import Counts, Failure, LogLine
from bulkup.core.records import Shard
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.display import is_alive
from bulkup.state.ranges_seen import ranges_seen, with_seen
from bulkup.state.record_codec import run_info_from_json
from bulkup.state.unreported import reported

_NUMBER, _TEXT = (int, float), (str,)
_FACTS: Mapping[str, tuple[type, ...]] = {
    "state": _TEXT, "reason": _TEXT, "exit_code": (int,), "ended": _TEXT,
    "took_s": (*_NUMBER, NoneType), "successor": _TEXT, "runners": (int,), "max_failures": (int,),
    "over_budget": (bool, NoneType), "clean": (bool,), "generation": (int,), "asked": (dict,),
    "total": (int, NoneType), "gate": (dict, NoneType), "undone_by": _TEXT, "partly": (bool,),
    "brought_back_by": _TEXT, "who_worked": (list,),
}  # fmt: skip
"""What a copy keeps of a run, with the allowed types: a copy may come from a stranger."""
_RUNNER: Mapping[str, tuple[type, ...]] = {
    "number": (int,), "who": _TEXT, "origin": (dict,), "python": _TEXT, "system": _TEXT,
    "began": _NUMBER, "ended": (*_NUMBER, NoneType), "state": _TEXT, "reason": _TEXT,
    "retries": (int,), "operations": (dict, NoneType), "warnings": (list,),
}  # fmt: skip
_OPERATIONS: Mapping[str, tuple[type, ...]] = {
    "reads": (int,), "writes": (int,), "deletes": (int,), "index_updates": (int, NoneType),
}  # fmt: skip
MAX_NUMBER = 2**53
"""A larger number cannot be a count or a time."""
COPY_NAME = "copy"
_ALIVE = "alive"


class _Copied(Checkpoint):
    def facts(self) -> dict[str, Any]:
        meta = self._meta()
        return {name: meta[name] for name in _FACTS if name in meta}

    def keep(self, facts: Mapping[str, Any]) -> None:
        with self._step():
            self._set(**{name: facts[name] for name in _FACTS if name in facts})


def stored_run(folder: Path) -> dict[str, Any]:
    """What is known about a run, without its failures and log lines. Raises StateError."""
    with closing(_Copied.open(folder, check=False)) as checkpoint:
        counts, facts = checkpoint.counts(), checkpoint.facts()
        seen = None if checkpoint.status().state.is_over else ranges_seen(folder)
        seen = with_seen(seen, counts, facts.get("total"))
        if seen is not None:
            counts, facts = seen.counts, {**facts, "total": seen.entities}
        return {
            "run_info": checkpoint.run_info.stored(),
            "facts": facts,
            "counts": counts.stored(),
            "alive": is_alive(checkpoint) is True,
            "shards": [
                {
                    "id": shard.id,
                    "done": shard.done,
                    "handled": checkpoint.counts_of(shard.id).handled,
                }
                for shard in checkpoint.shards()
            ],
        }


def make_copy(
    folder: Path,
    stored: Mapping[str, Any],
    failures: Iterable[Failure],
    log_lines: Iterable[LogLine],
) -> None:
    """Make the checkpoint of a run in an empty folder, from what `stored_run` returned.

    Raises AttributeError, KeyError, TypeError, ValueError, OverflowError and sqlite3.Error if
    `stored` is not valid.
    """
    facts = stored["facts"]
    _check(facts, _FACTS)
    for runner in facts.get("who_worked", ()):
        _check(runner, _RUNNER)
        _check(runner["origin"], dict.fromkeys(runner["origin"], _TEXT))
        for operations in (runner.get("operations") or {}).values():
            _check(operations, _OPERATIONS)
        if not all(isinstance(warning, str) for warning in runner["warnings"]):
            raise TypeError("a string is expected")
    _check(stored["counts"], dict.fromkeys(stored["counts"], (int,)))
    counts = Counts(**stored["counts"])
    run_info = run_info_from_json(dict(stored["run_info"]))
    with closing(_Copied.create(folder, run_info)) as checkpoint:
        checkpoint.follow([Shard(1)], int(facts.get("generation", 0)))
        row = BatchRow(1, None, 0, b"", b"", b"", True, counts)
        checkpoint.batch_done(row, low=None, failures=[*failures], log_lines=log_lines)
        checkpoint.keep(facts)
        # A copy that these cannot read is not a run.
        checkpoint.status()
        checkpoint.runners()
    reported(folder)
    (folder / COPY_NAME).write_text(_ALIVE if stored.get("alive") is True else "")


def is_copy(folder: Path) -> bool:
    """Whether this is a copy of a run from elsewhere, so that no command for it works here."""
    return (folder / COPY_NAME).exists()


def was_alive(folder: Path) -> bool:
    """Whether a process was working on the run when it was copied."""
    return (folder / COPY_NAME).read_text() == _ALIVE


def _check(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> None:
    """Raises TypeError for an unknown name or another type, ValueError for too large a number."""
    for name, value in values.items():
        allowed = types.get(name, ())
        is_allowed = type(value) in allowed  # not isinstance: True is an int
        if not is_allowed:
            raise TypeError(f"{name} has another type")
        if isinstance(value, (int, float)) and not abs(value) < MAX_NUMBER:
            raise ValueError(f"{name} is too large")
