"""What a run keeps of the plan that it carries out, and how far the run departs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bulkup.core.errors import UsageError
from bulkup.core.model import Counts

WATCHED = {
    "handled": "handled",
    "written": "written",
    "deleted": "deleted",
    "unchanged": "unchanged",
    "left_alone": "left alone",
    "failed": "failed",
    "changed_not_written": "changed and not written",
    "other_written": "written",
    "other_deleted": "deleted",
}
"""The counts that a run compares with its plan, and how a sentence names them. `vanished` is not
among them, because others deleted these entities. Nor is `created`, which a run does not count."""

Range = tuple[int, int]


@dataclass(frozen=True)
class MaxDrift:
    """`--max-drift`: a share of the entities that the plan expects; 1: all of them."""

    share: float = 0.01

    @classmethod
    def parse(cls, text: str) -> MaxDrift:
        """Parse `2.5%`. Without the sign, only a whole number is valid, because 0.01 could mean
        0.01% or 1%. Raises UsageError."""
        number = text.strip().removesuffix("%")
        try:
            percent = float(number)
        except ValueError:
            percent = -1.0
        is_clear = text.strip().endswith("%") or number.isdecimal()
        if not is_clear or not 0 <= percent <= 100:
            raise UsageError(f"{text!r} is not a share; use 0% to 100%, such as 1%")
        return cls(percent / 100)

    def __str__(self) -> str:
        return f"{self.share * 100:g}%"


@dataclass(frozen=True)
class PlanTerms:
    """The part of a plan that its run is held to. Stored by the names of the fields."""

    plan_id: str
    code: str
    """Checksum of the updater's code, without comments and layout."""
    identity: str
    """The plan's identity: made from the updater, its parameters and its query."""
    ranges: Mapping[str, Range]
    """What the plan predicts for each name in WATCHED, from low to high; both are equal if every
    entity was handled."""
    approved_by: str = ""
    """user@host; empty: nobody was asked."""
    approved_at: int = 0
    """Unix time."""

    def allowed(self, max_drift: MaxDrift) -> int:
        """How many entities may have another outcome than the plan says."""
        return int(self.ranges["handled"][1] * max_drift.share)

    def of_further_pass(self) -> PlanTerms:
        """The terms of a further pass (`--until-clean`), which finds most work done already."""
        all_of_them = (0, self.ranges["handled"][1])
        done = dict.fromkeys(("unchanged", "left_alone"), all_of_them)
        return replace(self, ranges={**self.ranges, **done})

    def too_many(self, counts: Counts, max_drift: MaxDrift) -> str:
        """What has happened more often than the plan allows, as a sentence; empty if nothing has.

        It compares counts, not shares of the entities handled so far: neighbours are alike, so the
        first thousand entities say little about the others.
        """
        allowed = self.allowed(max_drift)
        for name, count in counts.named().items():
            if name in WATCHED and count > self.ranges[name][1] + allowed:
                return self._sentence(name, count, counts.handled, max_drift)
        return ""

    def too_few(self, counts: Counts, max_drift: MaxDrift) -> str:
        """What has happened less often than the plan allows, as a sentence; empty if nothing has.
        Call it only when the run has handled everything."""
        allowed = self.allowed(max_drift)
        for name, count in counts.named().items():
            if name in WATCHED and count < self.ranges[name][0] - allowed:
                return self._sentence(name, count, counts.handled, max_drift)
        return ""

    def _sentence(self, name: str, count: int, handled: int, max_drift: MaxDrift) -> str:
        low, high = self.ranges[name]
        planned = self.ranges["handled"][1]
        predicted = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        if name == "handled":
            was = f"{count:,} {'entity was' if count == 1 else 'entities were'} handled"
            shares = ""
        else:
            verb = "" if name == "failed" else "was " if count == 1 else "were "
            who = f"of {handled:,} handled "
            if name.startswith("other_"):
                who = f"other {'entity' if count == 1 else 'entities'}, for {handled:,} handled, "
            was = f"{count:,} {who}{verb}{WATCHED[name]} ({_percent(count, handled)} %)"
            below, above = _percent(low, planned), _percent(high, planned)
            shares = f" ({below} %)" if below == above else f" ({below} to {above} %)"
            predicted += f" of {planned:,}"
        return (
            f"{was}, and the plan predicted {predicted}{shares}, give or take "
            f"{self.allowed(max_drift):,} (--max-drift {max_drift})"
        )


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.3g}" if of else "0"


@dataclass(frozen=True)
class PlanOutcome:
    """How closely a run has followed its plan, for its report."""

    plan_id: str
    max_drift: MaxDrift = field(default_factory=MaxDrift)
    drift: str = ""
    """What differs by more than `max_drift`; empty if nothing does."""
    approved_by: str = ""
    approved_at: int = 0
