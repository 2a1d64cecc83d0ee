"""What happened in a run, read from its checkpoint: counts, failures, log lines."""

from __future__ import annotations

from collections.abc import Iterator

from bulkup.core.model import Counts, Failure, LogLine
from bulkup.core.records import Shard
from bulkup.state.before_images import Place
from bulkup.state.checkpoint_file import CheckpointFile


class Outcomes(CheckpointFile):
    """Only batches that are done count: a batch in flight may still fail."""

    def counts_of(self, shard: int) -> Counts:
        """The total counts of a shard's batches that are done."""
        row = self._db.execute(
            f"SELECT {self._sums} FROM batches WHERE state = 'done' AND shard = ?",  # noqa: S608 (our own column names)
            (shard,),
        ).fetchone()
        return Counts(*row).reconciled()

    def counts_around_mark(self, shard: Shard) -> tuple[Counts, Counts]:
        """The counts up to the batch that is the shard's low-water mark, and the counts of the done
        batches right after it, which have no number because they write nothing."""
        counts, above = self.counts_of(shard.id), Counts()
        position = shard.low_cursor
        for start, end, *unnumbered in self._db.execute(
            f'SELECT start, "end", {self._counts} FROM batches '  # noqa: S608 (our own column names)
            "WHERE shard = ? AND number IS NULL AND state = 'done' ORDER BY id DESC",
            (shard.id,),
        ):
            if end != position:
                break
            above = above + Counts(*unnumbered)
            position = start
        return counts - above, above

    def done(self) -> Counts:
        """The total counts of the batches that are done."""
        row = self._db.execute(f"SELECT {self._sums} FROM batches WHERE state = 'done'").fetchone()  # noqa: S608 (our own column names)
        return Counts(*row).reconciled()

    def not_done(self) -> Counts:
        """The counts of entities that were changed but not written, which stopped the run."""
        return Counts(**self._meta().get("not_done") or {})

    def counts(self) -> Counts:
        """The total counts of the batches that are done, plus what stopped the run: a failure, or
        entities that were changed but not written. The next runner handles these entities again."""
        *done, stopped = self._db.execute(
            f"SELECT {self._sums}, (SELECT count(*) FROM failures WHERE batch IS NULL) "  # noqa: S608 (our own column names)
            "FROM batches WHERE state = 'done'"
        ).fetchone()
        return (
            Counts(*done).reconciled() + self.not_done() + Counts(handled=stopped, failed=stopped)
        )

    def written_batches(self) -> Iterator[tuple[Place | None, bytes, int]]:
        """For each batch that is done and writes something: its place, the cursor of its last
        entity, and how many writes it has. The place is None for work of which this file knows only
        the counts."""
        rows = self._db.execute(
            'SELECT shard, number, part, "end", puts + deletes FROM batches '
            "WHERE state = 'done' AND puts + deletes > 0 ORDER BY id"
        )
        for shard, number, part, end, writes in rows:
            yield None if number is None else Place(shard, number, part), end, writes

    def unknown_writes(self) -> int:
        """How many writes were sent, but are not known here to have been applied or refused."""
        (writes,) = self._db.execute(
            "SELECT coalesce(sum(puts + deletes), 0) FROM batches WHERE state = 'sent'"
        ).fetchone()
        return int(writes)

    def failures(self, skip: int = 0) -> Iterator[Failure]:
        """Failures in the order they happened: those of batches that are done, and the one that
        stopped the run."""
        rows = self._db.execute(
            f"SELECT f.key, f.step, f.error, f.traceback, {self._at('f')} FROM failures f "  # noqa: S608 (our own column name)
            "LEFT JOIN batches b ON b.id = f.batch "
            "WHERE f.batch IS NULL OR b.state = 'done' ORDER BY f.id LIMIT -1 OFFSET ?",
            (skip,),
        )
        for row in rows:
            yield Failure(*row)

    def failed_keys(self) -> Iterator[str]:
        """The keys of `failures`."""
        rows = self._db.execute(
            "SELECT f.key FROM failures f LEFT JOIN batches b ON b.id = f.batch "
            "WHERE f.batch IS NULL OR b.state = 'done' ORDER BY f.id"
        )
        for (key,) in rows:
            yield key

    def unnamed(self) -> int:
        """How many failures are counted but missing from `failures`: they happened before this file
        was made, and Datastore has no note of them."""
        (named,) = self._db.execute(
            "SELECT count(*) FROM failures f LEFT JOIN batches b ON b.id = f.batch "
            "WHERE f.batch IS NULL OR b.state = 'done'"
        ).fetchone()
        retried = sum(count or 0 for count in (self._meta().get("retries") or {}).values())
        return max(0, self.counts().failed - int(named) - retried)

    def log_lines(self) -> Iterator[LogLine]:
        rows = self._db.execute(
            f"SELECT l.line, {self._at('l')} FROM log_lines l JOIN batches b ON b.id = l.batch "  # noqa: S608 (our own column name)
            "WHERE b.state = 'done' ORDER BY l.id"
        )
        for line, at in rows:
            yield LogLine.of(line, at)

    def log_total(self) -> int:
        (total,) = self._db.execute(
            "SELECT count(*) FROM log_lines l JOIN batches b ON b.id = l.batch "
            "WHERE b.state = 'done'"
        ).fetchone()
        return int(total)
