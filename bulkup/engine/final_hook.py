"""Calls the updater's `finish` when every entity is done, and starts the successor it asks for."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.authoring.updater import Updater
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report
from bulkup.core.user_traceback import user_traceback
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
        self.code: Exit | None = None
        """How `finish` ended; None: it was not called."""
        self.successor: RunRecord | None = None

    def conclude(self, report: Report, record: RunRecord) -> None:
        """Call `finish` and prepare the successor, before the end of the run is recorded: the
        write that records it also begins the successor."""
        self.call(report)
        if self.code is Exit.DONE:
            try:
                self.successor = self._begin_successor(record)
            except BulkupError as error:
                self._failed(f"the successor cannot begin: {error.message}", error.details)

    def call(self, report: Report) -> None:
        self.code = Exit.DONE
        try:
            self._updater.finish(report.success, report)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(
                f"{report.updater}.finish raised after the work had ended; the entities are not "
                "affected, and no successor begins",
                user_traceback(error),
            )

    def _failed(self, message: str, details: str) -> None:
        self.code = Exit.FAILED
        self._warn(f"{message}\n{details}".rstrip())
