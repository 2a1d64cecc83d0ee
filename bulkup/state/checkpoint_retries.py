"""The outcome of a run's failures when `bulkup retry` handled their entities again.

A failure leaves the list once its entity was handled; one that failed again gets its new error.
The counts of the run do not change: they say what the run itself did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bulkup.core.model import Failure
from bulkup.core.user_traceback import encodable
from bulkup.state.checkpoint_file import CheckpointFile

_OF_DONE = "batch IN (SELECT id FROM batches WHERE state = 'done')"
"""Excludes the failure that stopped the run: its entity is not done, and resuming handles it."""


class Retries(CheckpointFile):
    """The runs that have retried failures of this one."""

    def retries(self) -> dict[str, int | None]:
        """How many failures each retry took off the list, by its id; None: it has not ended."""
        return dict(self._meta().get("retries") or {})

    def retried(self) -> int:
        """How many failures are no longer in the list."""
        return sum(count or 0 for count in self.retries().values())

    def begin_retry(self, run_id: str) -> None:
        """Record that a retry starts or is resumed. Synced to disk before it writes anything."""
        retries = self.retries()
        if run_id not in retries:
            with self._step(synced=True):
                self._set(retries={**retries, run_id: None})

    def has_failures_to_retry(self) -> bool:
        query = f"SELECT 1 FROM failures WHERE {_OF_DONE} LIMIT 1"  # noqa: S608 (our own words)
        return self._db.execute(query).fetchone() is not None

    def keys_to_retry(self) -> Iterator[str]:
        """The keys of all failures in the list, as strings."""
        query = f"SELECT key FROM failures WHERE {_OF_DONE} ORDER BY id"  # noqa: S608 (our own words)
        for (key,) in self._db.execute(query):
            yield key

    def retry_undone(self, run_id: str, keys: Iterable[str]) -> None:
        """Put the entities of a finished retry that was undone back in the list of failures."""
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
        """Record a finished retry: it handled `keys`, of which those in `failures` failed again.

        `unnamed`: how many more failed again, without a record of which. Keeping every candidate in
        the list would handle the successful ones once too often, so none of them is kept.
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
