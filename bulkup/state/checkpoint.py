"""The local checkpoint of a run: which batches are done, and what happened in them.

After a power loss the last transactions may be missing. That does no harm, because the markers in
Datastore record the same facts (see `engine/recovery.py`). Changes to the structure of a run (its
record, its shards) are synced to disk before anything relies on them.

The row of a batch is written before its commit is sent, with the failures and log lines of its
entities, so that these survive a process that dies before the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from bulkup.core.errors import Exit
from bulkup.core.model import Counts, Failure, GateResult, RunState
from bulkup.core.plan_terms import PlanTerms
from bulkup.core.records import Shard
from bulkup.core.user_traceback import encodable
from bulkup.datastore.keys import key_digest
from bulkup.state.checkpoint_file import COUNTS
from bulkup.state.checkpoint_made import MadeKeys
from bulkup.state.checkpoint_outcomes import Outcomes
from bulkup.state.checkpoint_ranges import RangeWrites
from bulkup.state.checkpoint_retries import Retries
from bulkup.state.checkpoint_runners import Runners
from bulkup.state.checkpoint_status import Status
from bulkup.state.checkpoint_undone import Undone
from bulkup.state.notes import Note
from bulkup.state.terms_codec import gate_to_json, plan_to_json
from bulkup.state.unreported import begin_unreported


@dataclass(frozen=True)
class BatchRow:
    """A batch, or part of one: the cursor interval (start, end] of its shard."""

    shard: int
    number: int | None
    """None: the batch writes nothing, so it has no commit and no marker."""
    part: int
    start: bytes
    end: bytes
    whole_end: bytes
    """Where the whole batch ends."""
    done: bool
    counts: Counts


_PUT_FAILURE = (
    "INSERT INTO failures (batch, key, step, error, traceback, at) VALUES (?, ?, ?, ?, ?, ?)"
)


def _failure_row(batch: int | None, failure: Failure) -> tuple[Any, ...]:
    texts = encodable(failure.key), failure.step, encodable(failure.error)
    return batch, *texts, encodable(failure.traceback), failure.at


class Checkpoint(Outcomes, MadeKeys, RangeWrites, Retries, Runners, Undone):
    """The open checkpoint of one run. Every method is one atomic step."""

    # --- the run's state ---

    def status(self) -> Status:
        """What is known about the run so far."""
        return Status.of(self._meta())

    def only_end_left(self) -> bool:
        """Whether the run is not over, but every entity is done and every outcome is known here."""
        status = self.status()
        if status.state.is_over or not status.clean or not status.generation:
            return False
        return all(shard.done for shard in self.shards())

    def next_shard(self) -> int:
        """A shard id that has never been used."""
        (highest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM shards").fetchone()
        return int(highest) + 1

    def begin_work(
        self,
        shards: Sequence[Shard],
        generation: int,
        *,
        max_failures: int,
        asked: Mapping[str, Any],
        gate: GateResult | None = None,
        plan: PlanTerms | None = None,
        goes_on: bool = False,
    ) -> None:
        """Record that a runner starts: the `generation`th, on these shards (see `follow`).
        `goes_on`: this runner has already worked on the run's ranges, and now ends the run.

        Until `end_work`, commits may be in flight at any time. The failure that stopped the last
        runner is removed, since its entity is handled again. So are the counts that `stopped_with`
        kept.
        """
        begin_unreported(self.folder, self.run_info.identity)
        runners = int(self._meta()["runners"])
        with self._step(synced=True):
            self._follow(shards)
            self._set(
                state=RunState.RUNNING.value,
                reason="",
                took_s=None,
                over_budget=None,
                clean=False,
                max_failures=max_failures,
                asked=dict(asked),
                gate=gate_to_json(gate),
                plan=plan_to_json(plan),
                generation=generation,
                runners=runners if goes_on else max(runners + 1, generation),
                not_done={},
            )
            self._db.execute("DELETE FROM failures WHERE batch IS NULL")

    def total_is(self, total: int) -> None:
        """Note how many entities the query finds."""
        with self._step():
            self._set(total=total)

    def all_is_known(self) -> None:
        """Record that this file has the outcome of every commit sent, and sync it to disk."""
        with self._step(synced=True):
            self._set(clean=True)

    def end_work(
        self,
        state: RunState,
        reason: str | None,
        exit_code: Exit,
        *,
        clean: bool,
        successor: str | None = None,
        ended: datetime | None = None,
        took_s: float | None = None,
        over_budget: bool = False,
    ) -> None:
        """Record that a runner ended, at `ended` (None: now), after `took_s` seconds.

        `successor` is the id of the run that was started by this end.
        """
        with self._step(synced=True):
            self._set(
                state=state.value,
                reason=reason or "",
                exit_code=int(exit_code),
                clean=clean,
                successor=successor or "",
                ended=(ended or datetime.now(timezone.utc)).isoformat(),
                took_s=took_s,
                over_budget=over_budget,
            )

    # --- shards ---

    def shards(self) -> list[Shard]:
        """The shards that are not replaced, in the order they were made."""
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
        """Replace the shards with those of the run record, which is authoritative.

        A known shard keeps its progress. Its end may have moved, if new shards took over the rest
        of it. If a shard no longer exists, its batches that were sent but are not known to be done
        are removed: a new shard covers them.
        """
        with self._step(synced=True):
            self._follow(shards)
            self._set(generation=generation)

    def _follow(self, shards: Sequence[Shard]) -> None:
        ids = [shard.id for shard in shards]
        marks = ", ".join("?" * len(ids))
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
        """Add the work in `counts` that Datastore knows of and this file does not, because the
        file is new or lost its last writes."""
        missing = counts - self.done()
        if missing.handled > 0:
            with self._step():
                # Goes to a replaced shard, because the counts of the other shards are complete.
                self._make_replaced_shard(0)
                row = BatchRow(0, None, 0, b"", b"", b"", True, missing)
                self._put_batch(row, "done", (), (), ())

    def restore(self, note: Note) -> None:
        """Add the failures and log lines of a batch that is done, unless this file has them."""
        place = note.place
        with self._step():
            row = BatchRow(
                place.shard, place.number, place.part, b"", b"", b"", True, Counts()
            )  # without counts, which `catch_up` adds
            found = self._db.execute(
                "SELECT id, (SELECT count(*) FROM failures WHERE batch = b.id), "
                "(SELECT count(*) FROM log_lines WHERE batch = b.id) FROM batches b "
                "WHERE shard = ? AND number = ? AND part = ?",
                (place.shard, place.number, place.part),
            ).fetchone()
            if found is None:
                self._make_replaced_shard(place.shard)
                self._put_batch(row, "done", note.failures, note.log_lines, ())
            elif not any(found[1:]):
                self._put_outcomes(found[0], note.failures, note.log_lines)

    def _make_replaced_shard(self, id_: int) -> None:
        """Add a shard that was replaced before this file was made, unless it is known here."""
        self._db.execute(
            'INSERT INTO shards (id, start, "end", low_cursor, "after", upto, state) '
            "VALUES (?, x'', x'', x'', x'', x'', 'replaced') ON CONFLICT DO NOTHING",
            (id_,),
        )

    # --- batches ---

    def batch_sent(
        self,
        row: BatchRow,
        failures: Sequence[Failure],
        log_lines: Iterable[str],
        keys: Sequence[bytes] = (),
    ) -> None:
        """Note a commit before it is sent. A batch that is sent again replaces its earlier row.

        Failures are synced to disk, because a note may have no room for all of them. So are
        `keys`, the keys of entities that must not be handled again.
        """
        with self._step(synced=bool(failures or keys or self.syncs_batches)):
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
        """Record that a batch or part is done. `low`: the shard's new low-water mark, as number and
        cursor.

        Pass `failures`, `log_lines` and `keys` if `batch_sent` has not written the row.
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
        """Whether the entity is in a batch that is done or in flight. Knows only the keys that
        were given to `batch_sent` or `batch_done`."""
        found = self._db.execute("SELECT 1 FROM handled WHERE key = ?", (key_digest(key),))
        return found.fetchone() is not None

    def done_up_to(self, shard: int, number: int) -> None:
        """Mark every batch of the shard up to this one as done, because the markers say so."""
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
        self._add_missing_columns()
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
        assert batch is not None
        self._put_outcomes(batch, failures, log_lines)
        self._db.executemany(
            "INSERT INTO handled VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(key_digest(key), batch) for key in keys],
        )

    def _put_outcomes(
        self, batch: int, failures: Iterable[Failure], log_lines: Iterable[str]
    ) -> None:
        self._add_times()
        self._db.executemany(_PUT_FAILURE, [_failure_row(batch, failure) for failure in failures])
        self._db.executemany(
            "INSERT INTO log_lines (batch, line, at) VALUES (?, ?, ?)",
            [(batch, encodable(line), getattr(line, "at", 0.0)) for line in log_lines],
        )

    def numbers_up_to(self, shard: int, number: int) -> int:
        """How many of the shard's batches 1 to `number` are noted here."""
        (noted,) = self._db.execute(
            "SELECT count(DISTINCT number) FROM batches WHERE shard = ? AND number <= ?",
            (shard, number),
        ).fetchone()
        return int(noted)

    def batches_above(self, shard: Shard) -> list[BatchRow]:
        """The batches of a shard above its low-water mark, ordered by number and part."""
        rows = self._db.execute(
            f'SELECT shard, number, part, start, "end", whole_end, state, {self._counts} '  # noqa: S608 (our own column names)
            "FROM batches WHERE shard = ? AND number > ? ORDER BY number, part",
            (shard.id, shard.low_number),
        )
        return [
            BatchRow(shard_id, number, part, start, end, whole, state == "done", Counts(*counts))
            for shard_id, number, part, start, end, whole, state, *counts in rows
        ]

    def stopped_with(self, counts: Counts) -> None:
        """Keep the counts of entities that were changed but not written, which stopped the run.
        They are not done; resume handles them."""
        with self._step():
            self._set(not_done=counts.stored())

    def stopped_by(self, failure: Failure, allowed: int | None = None) -> None:
        """Keep the failure that exceeded the budget. Its entity is not done; resume handles it.
        `allowed`: how many failures were allowed then; None: as many as when the runner began."""
        with self._step():
            if allowed is not None:
                self._set(max_failures=allowed)
            self._add_times()
            self._db.execute(_PUT_FAILURE, _failure_row(None, failure))
