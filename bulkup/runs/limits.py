"""What is left of --limit and --max-time, where they hold for several runs together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bulkup.core.clock import Clock
from bulkup.core.events import Event, RunEnded, RunStarted
from bulkup.engine.options import Options


@dataclass
class RunLimits:
    options: Options
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._began = self.clock.monotonic()
        self._handled = 0
        self._before = 0

    def hear(self, event: Event) -> None:
        """Tell it the events of every run."""
        if isinstance(event, RunStarted):
            self._before = event.already.handled
        elif isinstance(event, RunEnded):
            self._handled += max(0, event.report.counts.handled - self._before)

    @property
    def used_up(self) -> str:
        """Why nothing more may begin; empty when something may."""
        options = self.options
        if options.limit is not None and self._handled >= options.limit:
            many = "entity" if options.limit == 1 else "entities"
            return f"stopped after {options.limit} {many} (--limit)"
        if options.max_time_s is not None and self._time_left(options.max_time_s) <= 0:
            return "time is up (--max-time)"
        return ""

    def left(self) -> Options:
        """The options of the next run; while nothing is `used_up`."""
        options = self.options
        if options.limit is not None:
            options = replace(options, limit=options.limit - self._handled)
        if options.max_time_s is not None:
            options = replace(options, max_time_s=self._time_left(options.max_time_s))
        return options

    def _time_left(self, seconds: float) -> float:
        return seconds - (self.clock.monotonic() - self._began)
