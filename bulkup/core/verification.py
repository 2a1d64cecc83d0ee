"""What `bulkup verify` found, in addition to what every report says."""

from __future__ import annotations

from dataclasses import dataclass

from bulkup.core.model import Failure

STEP = "verify"
"""The `step` of a Failure that stands for an entity that is not done."""


@dataclass(frozen=True)
class Verification:
    """The result of a verification. Entities that are not done are the failures of the report."""

    by_is_done: bool
    """The updater's `is_done` was called. False: each entity was handled again, and is done if that
    would change nothing."""
    filtered: bool
    """The query has filters, so entities that no longer match were not read."""
    young: int = 0
    """Entities that are not done and were created after the verification began. They are not among
    the failures."""
    young_keys: tuple[str, ...] = ()
    """The first of them."""
    tells_births: bool = True
    """The server says when an entity was created. False: young entities are among the failures."""
    done_since: int = 0
    """Entities that were not done when they were first read, but were when they were read again."""
    unsteady: int = 0
    """Entities that are not done and got a different result when they were handled once more."""
    out: str = ""
    """The file with the keys, as the user named it; empty: none."""


@dataclass(frozen=True)
class Found:
    """An entity is not done, and was not when it was read again, either."""

    failure: Failure
    found: int
    """How many there are so far, including this one; of those that are young if it is."""
    young: bool = False
