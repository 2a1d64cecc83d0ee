"""The outcome of a run's failures when `bulkup retry` handled their entities again.

A failure whose entity was handled since leaves the list; one that failed again has its new error.
The counts of the run stay: they say what the run itself has done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bulkup.core.model import Failure
from bulkup.core.user_traceback import encodable
from bulkup.state.checkpoint_file import CheckpointFile

_OF_DONE = "batch IN (SELECT id FROM batches WHERE state = 'done')"
"""Not the failure that has stopped the run: its entity is not done, and resuming handles it."""


class Retries(CheckpointFile):
    """The runs that have handled failures of this one again."""

    def retries(self) -> dict[str, int | None]:
        """By their ids: how many failures each has taken from the list; None: it has not ended."""
        return dict(self._meta().get("retries") or {})

    def retried(self) -> int:
        """Failures that are not in the list any more."""
        return sum(count or 0 for count in self.retries().values())

    def begin_retry(self, run_id: str) -> None:
        """A retry starts or is resumed. Synced to disk before it writes anything."""
        retries = self.retries()
        if run_id not in retries:
            with self._step(synced=True):
                self._set(retries={**retries, run_id: None})

    def has_failures_to_retry(self) -> bool:
        query = f"SELECT 1 FROM failures WHERE {_OF_DONE} LIMIT 1"  # noqa: S608 (our own words)
        return self._db.execute(query).fetchone() is not None

    def keys_to_retry(self) -> Iterator[str]:
        """The texts of the keys of all failures in the list."""
        query = f"SELECT key FROM failures WHERE {_OF_DONE} ORDER BY id"  # noqa: S608 (our own words)
        for (key,) in self._db.execute(query):
            yield key

    def retry_undone(self, run_id: str, keys: Iterable[str]) -> None:
        """A finished retry was undone: its entities are in the list of failures again."""
        error = f"was handled by run {run_id}, which was undone"
        self._db.execute("CREATE TEMP TABLE tried (key TEXT PRIMARY KEY) WITHOUT ROWID")
        try:
            with self._step(synced=True):
                self._add_times()
                self._db.executemany(
                    "INSERT INTO tried VALUES (?) ON CONFLICT DO NOTHING",
                    ((encodable(key),) for key in keys),
                )
                self._db.execute(
                    "INSERT INTO failures (batch, key, step, error, traceback, at) "
                    "SELECT (SELECT min(id) FROM batches WHERE state = 'done'), key, 'retry', ?, "
                    "'', 0 FROM tried WHERE key NOT IN (SELECT key FROM failures)",
                    (error,),
                )
                self._set(retries={**self.retries(), run_id: 0})
        finally:
            self._db.execute("DROP TABLE tried")

    def end_retry(
        self, run_id: str, keys: Iterable[str], failures: Iterable[Failure], *, unnamed: int
    ) -> None:
        """A retry is finished: it has handled these keys, and these of them have failed again.

        `unnamed`: how many more have failed again, and nothing says which. Retrying all that may
        have failed would handle the others once too often, so none of them stays in the list.
        """
        self._db.execute("CREATE TEMP TABLE tried (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute(
            "CREATE TEMP TABLE again (key TEXT PRIMARY KEY, step, error, traceback, at) "
            "WITHOUT ROWID"
        )
        try:
            with self._step(synced=True):
                self._add_times()
                self._db.executemany(
                    "INSERT INTO tried VALUES (?) ON CONFLICT DO NOTHING",
                    ((encodable(key),) for key in keys),
                )
                self._db.executemany(
                    "INSERT INTO again VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (
                        (encodable(f.key), f.step, encodable(f.error), encodable(f.traceback), f.at)
                        for f in failures
                    ),
                )
                gone = self._db.execute(
                    f"DELETE FROM failures WHERE {_OF_DONE} AND key IN tried "  # noqa: S608 (our own words)
                    "AND key NOT IN (SELECT key FROM again)"
                ).rowcount
                self._db.execute(
                    "UPDATE failures SET (step, error, traceback, at) = "  # noqa: S608 (our own words)
                    "(SELECT step, error, traceback, at FROM again a WHERE a.key = failures.key) "
                    f"WHERE {_OF_DONE} AND key IN (SELECT key FROM again)"
                )
                self._set(retries={**self.retries(), run_id: max(0, gone - unnamed)})
        finally:
            self._db.execute("DROP TABLE tried")
            self._db.execute("DROP TABLE again")
