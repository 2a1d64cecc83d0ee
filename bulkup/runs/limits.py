"""The limits of a command that executes several runs: --limit and --max-time, over all of them."""

from __future__ import annotations

from dataclasses import replace

from bulkup.core.clock import Clock
from bulkup.core.events import Event, RunEnded, RunStarted
from bulkup.engine.options import Options


class RunLimits:
    """The limits of one command. Time counts from the creation of this object."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._started = clock.monotonic()
        self._handled = 0
        self._handled_before_run = 0

    def observe(self, event: Event) -> None:
        """Take note of an event. The caller passes every event of every run."""
        if isinstance(event, RunStarted):
            self._handled_before_run = event.already.handled
        elif isinstance(event, RunEnded):
            handled = event.report.counts.handled - self._handled_before_run
            self._handled += max(0, handled)

    def reached(self) -> str | None:
        """A sentence about the limit that rules out another run; None if another run may start."""
        options = self._options
        if options.limit is not None and self._handled >= options.limit:
            entities = "entity" if options.limit == 1 else "entities"
            return f"stopped after {options.limit} {entities} (--limit)"
        if options.max_time_s is not None and self._time_left(options.max_time_s) <= 0:
            return "time is up (--max-time)"
        return None

    def remaining(self) -> Options:
        """The options of the next run, with what is left of the limits. Call it only while no limit
        is `reached`."""
        options = self._options
        if options.limit is not None:
            options = replace(options, limit=options.limit - self._handled)
        if options.max_time_s is not None:
            options = replace(options, max_time_s=self._time_left(options.max_time_s))
        return options

    def _time_left(self, max_time_s: float) -> float:
        return max_time_s - (self._clock.monotonic() - self._started)
