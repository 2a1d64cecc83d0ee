"""Calls the updater's `check_after` and `finish` when every entity is done, and starts the
successor that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bulkup.authoring.running import finish
from bulkup.authoring.updater import Updater
from bulkup.core.errors import BulkupError, HeldError, UpdaterError
from bulkup.core.events import Detailed, Report
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.rpc import Rpc
from bulkup.engine.checks import objection
from bulkup.state.record import RunRecord

BeginSuccessor = Callable[[RunRecord], RunRecord | None]
"""Takes the record of a run, with its counts. Returns the record of its successor; None if it has
none."""


class FinalHook:
    def __init__(
        self,
        updater: Updater,
        rpc: Rpc,
        begin_successor: BeginSuccessor,
        warn: Callable[[str], None],
    ) -> None:
        self._updater = updater
        self._rpc = rpc
        self._begin_successor = begin_successor
        self._warn = warn
        self.called = False
        """`finish` was called."""
        self.failed = False
        """`finish` raised after a run that has not succeeded."""

    def conclude(self, report: Report, record: RunRecord) -> RunRecord | None:
        """Call `check_after` and then `finish`, and return the record of the successor; None if
        there is none.

        Called before the end of the run is recorded: the write that records it also begins the
        successor. Raises UpdaterError when `check_after` does not hold, `finish` raised or the
        successor cannot begin. Then the run must not end, because the hooks would never be called
        again; whoever resumes the run calls them.
        """
        self._check_after(report.updater)
        self.called = True
        try:
            finish(self._updater, report)
        except (KeyboardInterrupt, HeldError):
            raise
        except BaseException as error:
            raise UpdaterError(
                f"every entity is done, but {report.updater}.finish raised {error_line(error)}; "
                "fix it, then resume the run",
                details=f"{report.updater}.finish raised {error_line(error)}, so the run is not "
                f"finished and no successor begins\n{user_traceback(error)}",
            ) from error
        try:
            return self._begin_successor(replace(record, counts=report.counts))
        except HeldError:
            raise
        except BulkupError as error:
            raise UpdaterError(
                f"every entity is done, but the successor of {report.updater} cannot begin: "
                f"{error.message}; fix it, then resume the run",
                details=error.details,
            ) from error

    def _check_after(self, name: str) -> None:
        found = objection(self._updater, "check_after", self._rpc)
        if found is None:
            return
        what, details = found
        if details:
            details = f"check_after of {name} {what}, so the run is not finished\n{details}"
        raise UpdaterError(
            f"every entity is done, but check_after of {name} {what}; fix the cause, then resume "
            "the run",
            details=details,
        )

    def call(self, report: Report) -> None:
        """Call `finish` after a run that has not succeeded. What it raises is a warning."""
        self.called = True
        try:
            finish(self._updater, report)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failed = True
            message = (
                f"{report.updater}.finish raised {error_line(error)} after the work had stopped; "
                "the entities are not affected"
            )
            self._warn(Detailed(message, user_traceback(error).rstrip()))
