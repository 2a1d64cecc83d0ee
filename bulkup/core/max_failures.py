"""How many entities may fail before a run stops: a number, or a share of those handled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from bulkup.core.errors import UsageError

SHARE_OF_AT_LEAST = 1000
"""A share is taken of at least this many entities: one failure in the first ten would be 10%."""

ACCEPTED = (
    "use a whole number (0 stops at the first failure, -1 never stops) or a share such as '1%'"
)


@dataclass(frozen=True)
class MaxFailures:
    """`count` entities, or a `share` (0 to 1) of those handled. A count of -1 means no limit."""

    count: int = 0
    share: float | None = None

    @classmethod
    def of(cls, value: Any) -> MaxFailures:
        """Parse the value of an updater, an option or a stored run: 10, "10", -1, "1%", "0.5%".
        Raises UsageError."""
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise UsageError(f"{value!r:.80} is not a number of failures; {ACCEPTED}")
        text = str(value).strip()
        if re.fullmatch(r"-1|[0-9]{1,15}", text):
            return cls(int(text))
        if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?\s*%", text):
            percent = float(text.removesuffix("%"))
            if percent <= 100:
                return cls(share=percent / 100)
        raise UsageError(f"{value!r:.80} is not a number of failures; {ACCEPTED}")

    @property
    def stored(self) -> int | str:
        """The value in a form that `of` reads."""
        return self.count if self.share is None else str(self)

    def allowed(self, handled: int, total: int | None) -> int:
        """How many entities may have failed by now; -1: no limit. `total`: how many entities there
        are to handle, if that is known."""
        if self.share is None:
            return self.count
        at_least = SHARE_OF_AT_LEAST if total is None else min(SHARE_OF_AT_LEAST, total)
        # 29% of 100 is 29, though 0.29 * 100 is a little less.
        return int(self.share * max(handled, at_least) + 1e-9)

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{self.share * 100:g}%"
