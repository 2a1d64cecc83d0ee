"""The time by the server's clock, as learned from its answers.

Any time that another machine will compare with its own (until when a lease holds, until when a late
copy of a commit may arrive) is in the server's time, so that a wrong clock on one machine does no
harm. The service, the Firestore emulator and the embedded Datastore put their time into answers.
The Datastore emulator does not, so this machine's clock is used there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RESYNC_S = 5.0
"""A later answer counts only if it shows that the estimate is behind by more than this. The first
estimate is behind by the time that its answer took."""


class ServerTime:
    """`elapsed` and `unix` are those of a Clock."""

    def __init__(self, elapsed: Callable[[], float], unix: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.is_known = False
        """The server has reported its time."""
        self._offset = unix() - elapsed()

    def now(self) -> float:
        """Unix time by the server's clock, or a little earlier, since answers take time."""
        return self._elapsed() + self._offset

    def elapsed(self) -> float:
        """Seconds on a clock of this machine that nobody sets."""
        return self._elapsed()

    def learn(self, timestamp: Any) -> None:
        """Note the time in an answer that has just arrived: a Timestamp message, empty if it has
        none.

        A slow answer would set the estimate back, so after the first answer it only moves forward.
        """
        if not timestamp.seconds:
            return
        offset = timestamp.seconds + timestamp.nanos / 1e9 - self._elapsed()
        if not self.is_known or offset > self._offset + RESYNC_S:
            self._offset, self.is_known = offset, True
