"""Listens to the runs of a group, one namespace after the other."""

from __future__ import annotations

from bulkup.core.events import Event, Listener, Report, RunEnded, Warned, WarningKind, after
from bulkup.namespaces.find import display_name
from bulkup.namespaces.totals import Totals
from bulkup.runs.limits import RunLimits


class RunsListener:
    """Forwards the runs' events, and keeps what the group's report says about them."""

    def __init__(self, listener: Listener, limits: RunLimits) -> None:
        self._listener = listener
        self._limits = limits
        self.totals = Totals()
        self.namespace = ""
        """The namespace that is in progress."""
        self.reports: list[Report] = []
        """The reports of that namespace's run and its successors."""
        self.any_ended = False

    def __call__(self, event: Event) -> None:
        self._limits.observe(event)
        if isinstance(event, RunEnded):
            self.any_ended = True
            self.reports.append(event.report)
            self.totals.add(display_name(self.namespace), event.report)
        if isinstance(event, Warned):
            if event.kind is WarningKind.EMPTY_QUERY:
                return  # many tenants have no entities of a kind; the table says 0
            if self.totals.was_said(event):
                return
            self.totals.warn(after(f"{display_name(self.namespace)}: ", event.message))
        self._listener(event)

    def take_reports(self) -> list[Report]:
        reports, self.reports = self.reports, []
        return reports

    def warn(self, message: str, kind: WarningKind = WarningKind.OTHER) -> None:
        """Warn about the group itself."""
        self.totals.warn(message)
        self._listener(Warned(message, kind))
