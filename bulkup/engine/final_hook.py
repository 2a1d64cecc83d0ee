"""Calls the updater's `finish` when every entity is done, and starts the successor it asks for."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.authoring.updater import Updater, finish
from bulkup.core.errors import BulkupError, HeldError, UpdaterError
from bulkup.core.events import Detailed, Report
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.state.record import RunRecord

BeginSuccessor = Callable[[RunRecord], RunRecord | None]
"""From the record of a run to the record of the successor that its updater wants."""


class FinalHook:
    def __init__(
        self,
        updater: Updater,
        begin_successor: BeginSuccessor,
        warn: Callable[[str], None],
    ) -> None:
        self._updater = updater
        self._begin_successor = begin_successor
        self._warn = warn
        self.called = False
        self.failed = False
        """`finish` raised after a run that has not succeeded."""

    def conclude(self, report: Report, record: RunRecord) -> RunRecord | None:
        """Call `finish`, and return the record of the successor; None: there is none.

        Called before the end of the run is recorded: the write that records it also begins the
        successor. Raises UpdaterError when `finish` raised or the successor cannot begin. Then the
        run must not end, since nobody would call `finish` again: whoever resumes it does.
        """
        self.called = True
        try:
            finish(self._updater, report)
        except (KeyboardInterrupt, HeldError):
            raise
        except BaseException as error:
            raise UpdaterError(
                f"every entity is done, but {report.updater}.finish raised {error_line(error)}; "
                "fix it, then resume the run",
                details=f"{report.updater}.finish raised, so the run is not finished and no "
                f"successor begins\n{user_traceback(error)}",
            ) from error
        try:
            return self._begin_successor(record)
        except HeldError:
            raise
        except BulkupError as error:
            raise UpdaterError(
                f"every entity is done, but the successor of {report.updater} cannot begin: "
                f"{error.message}; fix it, then resume the run",
                details=error.details,
            ) from error

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
                f"{report.updater}.finish raised after the work had stopped; the entities are not "
                "affected"
            )
            self._warn(Detailed(message, user_traceback(error).rstrip()))
