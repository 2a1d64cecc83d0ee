"""The time by the server's clock, as far as its answers tell it.

Whatever another machine will compare with its own time (until when a lease holds, until when a late
copy of a commit may arrive) is in the server's time, so that a wrong clock of one machine does no
harm. The service, the Firestore emulator and the embedded Datastore put their time into answers.
The Datastore emulator does not; there the clock of this machine has to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RESYNC_S = 5.0
"""A later answer counts only if it shows that the estimate is behind by more than this. The first
one is behind by the time that its answer took."""


class ServerTime:
    """`elapsed` and `unix`: those of a Clock."""

    def __init__(self, elapsed: Callable[[], float], unix: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.is_known = False
        """The server has told its time."""
        self._offset = unix() - elapsed()

    def now(self) -> float:
        """Unix time by the server's clock, or a little earlier, since answers take time."""
        return self._elapsed() + self._offset

    def elapsed(self) -> float:
        """Seconds on a clock of this machine that is never set."""
        return self._elapsed()

    def learn(self, timestamp: Any) -> None:
        """Note the time that an answer has just brought: a Timestamp message; empty: it has none.

        An answer that took long would set the estimate back, so it only ever moves forward.
        """
        if not timestamp.seconds:
            return
        offset = timestamp.seconds + timestamp.nanos / 1e9 - self._elapsed()
        if not self.is_known or offset > self._offset + RESYNC_S:
            self._offset, self.is_known = offset, True
