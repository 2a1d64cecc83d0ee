"""Warns once of a handler that takes long, and says what helps."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.events import WarningKind
from bulkup.engine.options import Options

SLOW_S = 1.0
"""Seconds per entity. Computing alone does not take that long; most such handlers wait for
something."""

IN_A_ROW = 2
"""Slow entities before the warning: the first call may have had to import something, or to connect.
"""


class SlowHandler:
    """`warn`: called with the warning."""

    def __init__(
        self, options: Options, warn: Callable[[str, WarningKind], None], concurrency: int = 0
    ) -> None:
        """`concurrency`: of an async handler; 0 for any other."""
        self._options = options
        self._concurrency = concurrency
        self._warn = warn
        self._slow = 0

    def took(self, seconds: float, entities: int = 1, *, suspects: int = 0) -> None:
        """Note how long the handler took for this many entities. `suspects`: this many entities
        before them seemed to take long, too."""
        if self._slow >= IN_A_ROW:
            return
        each = seconds / entities
        self._slow = max(self._slow, suspects) + 1 if each > SLOW_S else 0
        if self._slow == IN_A_ROW:
            self._warn(
                f"the updater takes {each:.1f} s for an entity: {self._what_helps()}; what is "
                "handled is committed every 2 s, so stopping the run loses no more than that",
                WarningKind.SLOW_HANDLER,
            )

    def _what_helps(self) -> str:
        processes = self._options.processes
        if self._concurrency:
            return f"concurrency = {2 * self._concurrency} handles twice as many at a time"
        if self._options.dry_run:
            return "in a run, --processes 8 handles 8 entities at a time"
        if processes > 1:
            return f"--processes {2 * processes} handles twice as many at a time as {processes} do"
        return "--processes 8 handles 8 entities at a time, also while it waits for something"
