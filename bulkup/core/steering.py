"""How a run is steered from outside: paused, continued, cancelled, tuned.

A `Steering` is the state that a run is asked to be in, and its `number` grows with each change. It
is kept in the run's folder and in the run record. If these differ, the larger number counts.

    from        verb      to          what happens
    WORKING     pause     PAUSED      commits in flight end; the lease is kept; the process waits
    PAUSED      continue  WORKING     the process resumes work
    PAUSED      pause     PAUSED      nothing: it is paused already
    WORKING     continue  WORKING     nothing: it works already
    WORKING     cancel    CANCELLED   commits in flight end, and the runner with them (exit 12)
    PAUSED      cancel    CANCELLED   the same
    CANCELLED   cancel    CANCELLED   nothing: it is cancelled already
    CANCELLED   resume    WORKING     a new runner begins; so does `bulkup run` of the same work
    PAUSED      resume    PAUSED      a new runner waits until somebody continues the run
    WORKING     resume    WORKING     a new runner works
    WORKING     tune      WORKING     from the next batch on
    PAUSED      tune      PAUSED      the same, once it is continued

Anything that is not in the table is refused: CANCELLED with pause, continue or tune. `resume` is
not a verb of `steer`; the process that takes over the run applies it.

`by` comes from another process, and is untrusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from bulkup.core.errors import UsageError

MAX_BATCH_SIZE = 500
MAX_IN_FLIGHT = 32
"""The maximums of `--batch-size` and `--in-flight`."""
_RATE = re.compile(r"auto|off|[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class SteerState(str, Enum):
    """The state that a run is asked to be in; see the table."""

    WORKING = "working"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value  # the same on every Python


class Verb(str, Enum):
    """What changes a steering; see the table."""

    PAUSE = "pause"
    CONTINUE = "continue"
    CANCEL = "cancel"
    TUNE = "tune"
    RESUME = "resume"

    def __str__(self) -> str:
        return self.value


_W, _P, _C = SteerState.WORKING, SteerState.PAUSED, SteerState.CANCELLED
TRANSITIONS: Mapping[tuple[SteerState, Verb], SteerState] = MappingProxyType(
    {
        (_W, Verb.PAUSE): _P,
        (_P, Verb.CONTINUE): _W,
        (_P, Verb.PAUSE): _P,
        (_W, Verb.CONTINUE): _W,
        (_W, Verb.CANCEL): _C,
        (_P, Verb.CANCEL): _C,
        (_C, Verb.CANCEL): _C,
        (_C, Verb.RESUME): _W,
        (_P, Verb.RESUME): _P,
        (_W, Verb.RESUME): _W,
        (_W, Verb.TUNE): _W,
        (_P, Verb.TUNE): _P,
    }
)
"""The table in the module's docstring. Tests compare the two."""

_STRONGER = {_W: 0, _P: 1, _C: 2}
END_OF_TIME = 253402300799
"""The last second of the year 9999."""
MAX_NUMBER = 2**53
"""More changes than anybody makes, and about as large a number as a run record can hold."""
MAX_BY = 200
"""Characters of `by` that are kept."""


@dataclass(frozen=True)
class Tuning:
    """New values for options of the run; None keeps the value that the run was started with."""

    max_rate: str | None = None
    """As `--max-rate` takes it: `200`, `auto`, `off`."""
    in_flight: int | None = None
    """Commits of a shard in flight at once; 0: auto."""
    batch_size: int | None = None

    def __bool__(self) -> bool:
        return self != Tuning()

    def over(self, other: Tuning) -> Tuning:
        """This tuning, with the other tuning's values where this one has none."""
        return Tuning(
            other.max_rate if self.max_rate is None else self.max_rate,
            other.in_flight if self.in_flight is None else self.in_flight,
            other.batch_size if self.batch_size is None else self.batch_size,
        )

    def without(self, names: frozenset[str]) -> Tuning:
        """This tuning, without the settings that the user gave to a new runner directly."""
        return replace(self, **dict.fromkeys(names & {*self.stored()}))

    def stored(self) -> dict[str, Any]:
        """As JSON, with only what is set."""
        named = {
            "max_rate": self.max_rate,
            "in_flight": self.in_flight,
            "batch_size": self.batch_size,
        }
        return {name: value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        words = []
        if self.max_rate is not None:
            is_number = self.max_rate not in ("auto", "off")
            words.append(f"max rate {self.max_rate}{'/s' if is_number else ''}")
        if self.in_flight is not None:
            words.append(f"in flight {self.in_flight or 'auto'}")
        if self.batch_size is not None:
            words.append(f"batch size {self.batch_size}")
        return ", ".join(words)


NO_TUNING = Tuning()


@dataclass(frozen=True)
class Steering:
    """The state that a run is asked to be in, and its tuning."""

    state: SteerState = SteerState.WORKING
    tuning: Tuning = NO_TUNING
    by: str = ""
    """user@host of the last change; empty: there was none."""
    at: float = 0.0
    """Unix time of the last change, by the clock of the machine that made it."""
    number: int = 0
    """The number of the last change; 0 if there was none."""

    @property
    def is_paused(self) -> bool:
        return self.state is SteerState.PAUSED

    @property
    def is_cancelled(self) -> bool:
        return self.state is SteerState.CANCELLED

    def after(
        self, verb: Verb, *, by: str, at: float, tuning: Tuning = NO_TUNING
    ) -> Steering | None:
        """The steering after a change; None if the table does not allow the change.

        Returns the same object if nothing changes.
        """
        state = TRANSITIONS.get((self.state, verb))
        if state is None:
            return None
        tuned = tuning.over(self.tuning)
        if state is self.state and tuned == self.tuning:
            return self
        return Steering(state, tuned, by[:MAX_BY], at, self.number + 1)

    def retuned(self, tuning: Tuning, *, by: str, at: float) -> Steering:
        """This steering with exactly the given tuning."""
        if tuning == self.tuning:
            return self
        return replace(self, tuning=tuning, by=by[:MAX_BY], at=at, number=self.number + 1)

    def stored(self) -> dict[str, Any]:
        """As JSON; `read_stored` reads it."""
        return {
            "state": self.state.value,
            **self.tuning.stored(),
            "by": self.by,
            "at": self.at,
            "number": self.number,
        }


UNSTEERED = Steering()


def newest(*steerings: Steering) -> Steering:
    """The steering that counts.

    Two that were made at the same time have the same number. The one that does less wins, so a
    pause wins over a `tune`. The rest of the order only has to be the same for everybody.
    """
    return max(
        steerings,
        key=lambda one: (one.number, _STRONGER[one.state], one.at, one.by, str(one.tuning)),
    )


def read_stored(raw: object) -> Steering:
    """Read what `stored` wrote, in this version or a later one. Unknown fields are ignored.

    Raises ValueError if it is not a steering.
    """
    if not isinstance(raw, Mapping):
        raise ValueError("a steering is expected")
    try:
        state = SteerState(raw.get("state", SteerState.WORKING))
        number, at, by = raw.get("number", 0), raw.get("at", 0.0), raw.get("by", "")
        if not isinstance(by, str) or not _is_count(number) or isinstance(at, bool):
            raise ValueError("a steering is expected")
        if number > MAX_NUMBER:
            raise ValueError("a steering is expected")
        at = float(at)
        if not 0 <= at < END_OF_TIME:
            raise ValueError("a time is expected")
        tuning = Tuning(raw.get("max_rate"), raw.get("in_flight"), raw.get("batch_size"))
        return Steering(state, checked(tuning), by[:MAX_BY], at, number)
    except (TypeError, UsageError, OverflowError) as error:
        raise ValueError(str(error)) from error


def checked(tuning: Tuning) -> Tuning:
    """Return the tuning. Raises UsageError if a rate or a number is not valid."""
    rate = tuning.max_rate
    if rate is not None and not (
        isinstance(rate, str)
        and len(rate) <= 20
        and _RATE.fullmatch(rate)
        and (rate in ("auto", "off") or 0 < float(rate) < math.inf)
    ):
        raise UsageError(
            f"max_rate is {rate!r}; use auto, off, or entities per second, such as 200"
        )
    for name, value, low, high in (
        ("in_flight", tuning.in_flight, 0, MAX_IN_FLIGHT),
        ("batch_size", tuning.batch_size, 1, MAX_BATCH_SIZE),
    ):
        if value is not None and not (_is_count(value) and low <= value <= high):
            raise UsageError(f"{name} is {value!r}; it must be at least {low} and at most {high}")
    return tuning


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
