"""The local checkpoint of a run: which batches are done, and what happened in them.

After power loss it may lack its last transactions; that is no harm, since the markers in Datastore
know better (see `engine/recovery.py`). What changes the structure of a run (its record, its shards)
is synced to disk before it is relied on.

Before a commit is sent its row is written with the failures and log lines of its entities, so
that these are not lost when the process dies before the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from bulkup.core.errors import Exit
from bulkup.core.model import Counts, Failure, RunState
from bulkup.core.records import Shard
from bulkup.core.user_traceback import encodable
from bulkup.state.checkpoint_file import COUNTS, CheckpointFile

_SUMS = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTS)


@dataclass(frozen=True)
class BatchRow:
    """A batch, or a part of one: the interval (start, end] of its shard's scan."""

    shard: int
    number: int | None
    part: int
    start: bytes
    end: bytes
    whole_end: bytes
    done: bool
    counts: Counts


class Checkpoint(CheckpointFile):
    """The open checkpoint of one run. Every method is one atomic step."""

    # --- the run's state ---

    @property
    def state(self) -> RunState:
        return RunState(self._get("state"))

    @property
    def reason(self) -> str:
        return str(self._get("reason"))

    @property
    def runners(self) -> int:
        return int(self._get("runners"))

    @property
    def ended(self) -> str:
        return str(self._get("ended") or "")

    @property
    def exit_code(self) -> Exit:
        return Exit(self._get("exit_code") or 0)

    @property
    def successor(self) -> str:
        """The id of the run that began with the end of this one; empty: there is none."""
        return str(self._get("successor") or "")

    @property
    def max_failures(self) -> int:
        """The budget of the last runner."""
        return int(self._get("max_failures"))

    @property
    def clean(self) -> bool:
        """The last runner knew, when it ended, what became of every commit it had sent."""
        return bool(self._get("clean"))

    @property
    def file_id(self) -> str:
        """Of this file, and of copies of it."""
        return str(self._get("file_id"))

    @property
    def generation(self) -> int:
        """Of the run record, when this file last knew it; 0: never."""
        return int(self._get("generation"))

    @property
    def next_shard(self) -> int:
        """A shard id that was never used."""
        (highest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM shards").fetchone()
        return int(highest) + 1

    @property
    def asked(self) -> dict[str, Any]:
        """The options of the last runner that differed from the default ones."""
        return dict(self._get("asked") or {})

    def begin_work(
        self, *, max_failures: int, asked: Mapping[str, Any] | None = None, runners: int = 0
    ) -> None:
        """A runner starts: until `end_work`, commits may be under way at any time.

        The failure that stopped the last runner is forgotten, since its entity comes again.
        `runners`: so many there were by now, as Datastore knows.
        """
        with self._step(synced=True):
            self._set("state", RunState.RUNNING.value)
            self._set("reason", "")
            self._set("clean", False)
            self._set("max_failures", max_failures)
            self._set("asked", dict(asked or {}))
            self._set("runners", max(self.runners + 1, runners))
            self._db.execute("DELETE FROM failures WHERE batch IS NULL")

    def all_is_known(self) -> None:
        """What became of every commit that was sent is in this file, and on disk from here on."""
        with self._step(synced=True):
            self._set("clean", True)

    def end_work(
        self,
        state: RunState,
        reason: str,
        exit_code: Exit,
        *,
        clean: bool,
        successor: str = "",
    ) -> None:
        with self._step(synced=True):
            self._set("successor", successor)
            self._set("state", state.value)
            self._set("reason", reason)
            self._set("exit_code", int(exit_code))
            self._set("clean", clean)
            self._set("ended", datetime.now(timezone.utc).isoformat())

    # --- shards ---

    def shards(self) -> list[Shard]:
        """The shards that count, in the order they were made."""
        return [
            Shard(id_, start, end, number, cursor, state == "done", after, upto)
            for id_, start, end, number, cursor, state, after, upto in self._db.execute(
                'SELECT id, start, "end", low_number, low_cursor, state, "after", upto FROM shards '
                "WHERE state != 'replaced' ORDER BY id"
            )
        ]

    def shard_done(self, shard: int) -> None:
        with self._step():
            self._db.execute("UPDATE shards SET state = 'done' WHERE id = ?", (shard,))

    def follow(self, shards: Sequence[Shard], generation: int) -> None:
        """Make the run's shards those of its run record, which is the truth about them.

        A shard that is known keeps its progress; its end may have moved here, when its rest was
        given to others. Of one that is gone, what was sent and is not known to be done is
        forgotten: a new shard comes to it again.
        """
        ids = [shard.id for shard in shards]
        marks = ", ".join("?" * len(ids))
        with self._step(synced=True):
            self._set("generation", generation)
            self._db.execute(
                f"UPDATE shards SET state = 'replaced' WHERE id NOT IN ({marks})",  # noqa: S608 (marks)
                ids,
            )
            self._db.execute(
                "DELETE FROM batches WHERE state = 'sent' AND shard IN "
                "(SELECT id FROM shards WHERE state = 'replaced')"
            )
            self._db.executemany(
                'INSERT INTO shards (id, start, "end", low_cursor, "after", upto) '
                "VALUES (?, ?, ?, ?, ?, ?) "
                'ON CONFLICT (id) DO UPDATE SET "end" = excluded."end"',
                [(s.id, s.start, s.end, s.start, s.after, s.upto) for s in shards],
            )

    def catch_up(self, counts: Counts) -> None:
        """This file is new, or lost its last writes: Datastore knows that so much was done."""
        missing = counts - self.done()
        if missing.handled > 0:
            with self._step():
                # Of no shard that counts: the others have what was done of them.
                self._db.execute(
                    'INSERT INTO shards (id, start, "end", low_cursor, "after", upto, state) '
                    "VALUES (0, x'', x'', x'', x'', x'', 'replaced') ON CONFLICT DO NOTHING"
                )
                row = BatchRow(0, None, 0, b"", b"", b"", True, missing)
                self._put_batch(row, "done", (), (), ())

    # --- batches ---

    def batch_sent(
        self,
        row: BatchRow,
        failures: Sequence[Failure],
        log_lines: Iterable[str],
        keys: Sequence[bytes] = (),
    ) -> None:
        """Write down a commit before it is sent (again: in place of what was sent before).

        A failure is on disk then, whatever happens, for no marker names it; and so are the keys
        of entities that must not be handled again.
        """
        with self._step(synced=bool(failures or keys)):
            self._put_batch(row, "sent", failures, log_lines, keys)

    def batch_done(
        self,
        row: BatchRow,
        *,
        low: tuple[int, bytes] | None,
        failures: Sequence[Failure] | None = None,
        log_lines: Iterable[str] = (),
        keys: Sequence[bytes] = (),
    ) -> None:
        """A batch or part is done. `low` moves the shard's low-water mark.

        `failures` and what follows are given when the row was not written by `batch_sent`.
        """
        with self._step(synced=bool(failures)):
            if failures is not None:
                self._put_batch(row, "done", failures, log_lines, keys)
            else:
                self._db.execute(
                    "UPDATE batches SET state = 'done' WHERE shard = ? AND number = ? AND part = ?",
                    (row.shard, row.number, row.part),
                )
            if low is not None:
                self._db.execute(
                    "UPDATE shards SET low_number = ?, low_cursor = ? WHERE id = ?",
                    (*low, row.shard),
                )

    def is_handled(self, key: bytes) -> bool:
        """The entity is in a batch that is done or under way. Only for keys that were given."""
        found = self._db.execute("SELECT 1 FROM handled WHERE key = ?", (_digest(key),))
        return found.fetchone() is not None

    def done_up_to(self, shard: int, number: int) -> None:
        """The markers say that every batch of the shard up to this one is done."""
        with self._step():
            self._db.execute(
                "UPDATE batches SET state = 'done' WHERE shard = ? AND number <= ?",
                (shard, number),
            )

    def _put_batch(
        self,
        row: BatchRow,
        state: str,
        failures: Iterable[Failure],
        log_lines: Iterable[str],
        keys: Iterable[bytes],
    ) -> None:
        if row.number is not None:
            self._db.execute(
                "DELETE FROM batches WHERE shard = ? AND number = ? AND part = ?",
                (row.shard, row.number, row.part),
            )
        names = ", ".join(COUNTS)
        marks = ", ".join("?" * (7 + len(COUNTS)))
        cursor = self._db.execute(
            f'INSERT INTO batches (shard, number, part, start, "end", whole_end, state, {names}) '  # noqa: S608 (our own column names)
            f"VALUES ({marks})",
            (
                row.shard, row.number, row.part, row.start, row.end, row.whole_end, state,
                *(getattr(row.counts, name) for name in COUNTS),
            ),
        )  # fmt: skip
        batch = cursor.lastrowid
        self._db.executemany(
            "INSERT INTO failures (batch, key, step, error, traceback) VALUES (?, ?, ?, ?, ?)",
            [
                (batch, encodable(f.key), f.step, encodable(f.error), encodable(f.traceback))
                for f in failures
            ],
        )
        self._db.executemany(
            "INSERT INTO log_lines (batch, line) VALUES (?, ?)",
            [(batch, encodable(line)) for line in log_lines],
        )
        self._db.executemany(
            "INSERT INTO handled VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(_digest(key), batch) for key in keys],
        )

    def batches_above(self, shard: Shard) -> list[BatchRow]:
        """The rows of a shard behind its low-water mark, by number and part."""
        rows = self._db.execute(
            f'SELECT shard, number, part, start, "end", whole_end, state, {", ".join(COUNTS)} '  # noqa: S608 (our own column names)
            "FROM batches WHERE shard = ? AND number > ? ORDER BY number, part",
            (shard.id, shard.low_number),
        )
        return [
            BatchRow(shard_id, number, part, start, end, whole, state == "done", Counts(*counts))
            for shard_id, number, part, start, end, whole, state, *counts in rows
        ]

    # --- what happened ---

    def stopped_by(self, failure: Failure) -> None:
        """Keep the failure that broke the budget. Its entity is not done: resume handles it."""
        with self._step():
            self._db.execute(
                "INSERT INTO failures (batch, key, step, error, traceback) "
                "VALUES (NULL, ?, ?, ?, ?)",
                (
                    encodable(failure.key),
                    failure.step,
                    encodable(failure.error),
                    encodable(failure.traceback),
                ),
            )

    def counts_of(self, shard: int) -> Counts:
        """Of a shard's batches that are done."""
        row = self._db.execute(
            f"SELECT {_SUMS} FROM batches WHERE state = 'done' AND shard = ?",  # noqa: S608 (our own column names)
            (shard,),
        ).fetchone()
        return Counts(*row)

    def counts_at(self, shard: Shard) -> Counts:
        """Of a shard's batches up to the last one with a number, where none behind it has one."""
        counts = self.counts_of(shard.id)
        position = shard.low_cursor
        for start, end, *unnumbered in self._db.execute(
            f'SELECT start, "end", {", ".join(COUNTS)} FROM batches '  # noqa: S608 (our own column names)
            "WHERE shard = ? AND number IS NULL AND state = 'done' ORDER BY id DESC",
            (shard.id,),
        ):
            if end != position:
                break
            counts = counts - Counts(*unnumbered)
            position = start
        return counts

    def done(self) -> Counts:
        """Of the batches that are done."""
        row = self._db.execute(f"SELECT {_SUMS} FROM batches WHERE state = 'done'").fetchone()  # noqa: S608 (our own column names)
        return Counts(*row)

    def counts(self) -> Counts:
        """Of the batches that are done, and the failure that stopped the run."""
        (stopped,) = self._db.execute(
            "SELECT count(*) FROM failures WHERE batch IS NULL"
        ).fetchone()
        return self.done() + Counts(failed=stopped)

    def failures(self, skip: int = 0) -> Iterator[Failure]:
        """Failures in the order they happened: of entities the run is past, and what stopped it."""
        rows = self._db.execute(
            "SELECT f.key, f.step, f.error, f.traceback FROM failures f "
            "LEFT JOIN batches b ON b.id = f.batch "
            "WHERE f.batch IS NULL OR b.state = 'done' ORDER BY f.id LIMIT -1 OFFSET ?",
            (skip,),
        )
        for row in rows:
            yield Failure(*row)

    def log_lines(self) -> Iterator[str]:
        rows = self._db.execute(
            "SELECT l.line FROM log_lines l JOIN batches b ON b.id = l.batch "
            "WHERE b.state = 'done' ORDER BY l.id"
        )
        for (line,) in rows:
            yield line

    def log_total(self) -> int:
        (total,) = self._db.execute(
            "SELECT count(*) FROM log_lines l JOIN batches b ON b.id = l.batch "
            "WHERE b.state = 'done'"
        ).fetchone()
        return int(total)


def _digest(key: bytes) -> bytes:
    """16 bytes instead of up to 6 KiB; two keys with the same are not to be expected."""
    return hashlib.blake2b(key, digest_size=16).digest()
