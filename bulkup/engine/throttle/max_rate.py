"""`--max-rate`: the rate limit that the user sets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bulkup.core.errors import UsageError


@dataclass(frozen=True)
class MaxRate:
    """`auto`, `off`, or a number of entities per second."""

    per_s: float | None = None
    """None: auto. Infinite: off."""

    @classmethod
    def parse(cls, text: str) -> MaxRate:
        """Raises UsageError."""
        word = text.strip().lower()
        if word == "auto":
            return cls()
        if word == "off":
            return cls(math.inf)
        try:
            per_s = float(word)
        except ValueError:
            per_s = math.nan
        if not 0 < per_s < math.inf:
            raise UsageError(
                f"{text!r} is not a rate; use auto, off, or entities per second, such as 200"
            )
        return cls(per_s)

    @property
    def is_auto(self) -> bool:
        return self.per_s is None

    @property
    def is_off(self) -> bool:
        return self.per_s == math.inf

    def __str__(self) -> str:
        if self.per_s is None:
            return "auto"
        return "off" if self.is_off else f"{self.per_s:g}"
