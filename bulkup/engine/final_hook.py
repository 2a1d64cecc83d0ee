"""The updater's last word, when every entity is done, and the run that it wants to begin then."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.authoring.updater import Updater
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report
from bulkup.core.user_traceback import user_traceback
from bulkup.state.record import RunRecord


class FinalHook:
    """`begin` makes the record of the successor that the updater wants, of that of its run."""

    def __init__(
        self,
        updater: Updater,
        begin: Callable[[RunRecord], RunRecord | None],
        warn: Callable[[str], None],
    ) -> None:
        self._updater = updater
        self._begin = begin
        self._warn = warn
        self.code: Exit | None = None
        """What became of the updater's own `finish`; None: it was not called."""
        self.successor: RunRecord | None = None

    def conclude(self, report: Report, record: RunRecord) -> None:
        """All is done that `report` tells. Before the end is written, for that write begins the
        successor."""
        self.call(report)
        if self.code is Exit.DONE:
            try:
                self.successor = self._begin(record)
            except BulkupError as error:
                self._failed(f"the successor cannot begin: {error.message}", error.details)

    def call(self, report: Report) -> None:
        self.code = Exit.DONE
        try:
            self._updater.finish(report.success, report)
        except (Exception, SystemExit) as error:
            self._failed(
                f"{report.updater}.finish raised after the work had ended; the entities are not "
                "affected, and no successor begins",
                user_traceback(error),
            )

    def _failed(self, message: str, details: str) -> None:
        self.code = Exit.FAILED
        self._warn(f"{message}\n{details}".rstrip())
