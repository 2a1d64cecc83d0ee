"""A run's checkpoint as JSON, and made again from that: what a bundle of a run holds of it.

The copy tells of the run what the original tells. It cannot be resumed: it does not know where the
shards are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bulkup.core.model import Counts, Failure, LogLine
from bulkup.core.records import Shard
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.display import is_alive
from bulkup.state.record_codec import run_info_from_json
from bulkup.state.unreported import reported

_KEPT = (
    "state", "reason", "exit_code", "ended", "took_s", "successor", "runners", "max_failures",
    "over_budget", "clean", "generation", "asked", "total", "gate", "undone_by", "partly",
    "brought_back_by", "who_worked",
)  # fmt: skip


COPY_NAME = "copy"
_ALIVE = "alive"


class _Copied(Checkpoint):
    def facts(self) -> dict[str, Any]:
        meta = self._meta()
        return {name: meta[name] for name in _KEPT if name in meta}

    def keep(self, facts: Mapping[str, Any]) -> None:
        with self._step():
            self._set(**{name: facts[name] for name in _KEPT if name in facts})


def stored_run(folder: Path) -> dict[str, Any]:
    """What is known of a run, without its failures and log lines. Raises StateError."""
    with closing(_Copied.open(folder, check=False)) as checkpoint:
        return {
            "run_info": checkpoint.run_info.stored(),
            "facts": checkpoint.facts(),
            "counts": checkpoint.counts().stored(),
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
    """Make the checkpoint of a run from what `stored_run` has made of it, in an empty folder.

    Raises AttributeError, KeyError, TypeError, ValueError, OverflowError and sqlite3.Error for
    what is none.
    """
    facts = stored["facts"]
    counts = Counts(**{str(name): int(count) for name, count in stored["counts"].items()})
    run_info = run_info_from_json(dict(stored["run_info"]))
    with closing(_Copied.create(folder, run_info)) as checkpoint:
        checkpoint.follow([Shard(1)], int(facts.get("generation", 0)))
        row = BatchRow(1, None, 0, b"", b"", b"", True, counts)
        checkpoint.batch_done(row, low=None, failures=[*failures], log_lines=log_lines)
        checkpoint.keep(facts)
        # Whatever these refuse is no run.
        checkpoint.status()
        checkpoint.runners()
    reported(folder)
    (folder / COPY_NAME).write_text(_ALIVE if stored.get("alive") is True else "")


def is_copy(folder: Path) -> bool:
    """Whether this run is somewhere else, so that no command can be typed for it here."""
    return (folder / COPY_NAME).exists()


def was_alive(folder: Path) -> bool:
    """Whether a process worked on the run when it was copied."""
    return (folder / COPY_NAME).read_text() == _ALIVE
