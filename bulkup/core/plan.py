"""A plan: what a run would do, judging by the entities that were handled, and what it would cost.

The engine collects it, printers show it, and `runs/plan_file.py` keeps it for a later run, which
compares itself with the plan. Keys, names, values and errors in a plan are untrusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum

from bulkup.core.changes import WouldChange
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.model import TargetInfo
from bulkup.core.selection import EVERYTHING, Selection

CONFIDENCE = 0.95
"""How often all numbers of a plan lie in their intervals at once."""


@dataclass(frozen=True)
class Estimate:
    """A predicted number. Its interval is `low` to `high` (see CONFIDENCE). All three are equal
    if every entity was handled."""

    count: int
    low: int
    high: int

    @classmethod
    def exact(cls, count: int) -> Estimate:
        return cls(count, count, count)

    @property
    def is_exact(self) -> bool:
        return self.low == self.high


class Total(str, Enum):
    """How the number of matching entities was found."""

    COUNTED = "counted"
    """The server has counted them."""
    READ = "read"
    """All of their keys were read."""
    ESTIMATED = "estimated"
    """From Datastore's own statistics, which are a day or two old."""


class Drawn(str, Enum):
    """How the entities that the handler was called for were chosen."""

    ALL = "all"
    SCATTER = "scatter"
    """By `__scatter__`, a hash of the key."""
    KEYS = "keys"
    """At random from the keys of all matching entities."""


@dataclass(frozen=True)
class Predicted:
    """What a run would count, by the names of reports (docs/counts.md)."""

    handled: Estimate
    written: Estimate
    deleted: Estimate
    unchanged: Estimate
    left_alone: Estimate
    vanished: Estimate
    failed: Estimate
    changed_not_written: Estimate
    other_written: Estimate
    other_deleted: Estimate
    created: Estimate
    """Those of `other_written` that do not exist yet. A run does not count them separately."""

    def named(self) -> Iterator[tuple[str, Estimate]]:
        for one in fields(self):
            yield one.name, getattr(self, one.name)


@dataclass(frozen=True)
class PropertyKind:
    """A property that changes, and how. None means that it is absent."""

    name: str
    before: str | None
    """`string`, `integer, not indexed`."""
    after: str | None


@dataclass(frozen=True)
class ChangeKind:
    """Writes that are alike: the same properties change from the same types to the same types."""

    action: str
    """`update` or `delete` for the handled entity; `create`, `overwrite` or `delete other` for
    another one."""
    kind: str
    """The kind of the entities written."""
    properties: tuple[PropertyKind, ...]
    seen: int
    """Writes of this kind among the entities handled."""
    predicted: Estimate
    examples: tuple[WouldChange, ...]


@dataclass(frozen=True)
class BillLine:
    operation: str
    """`reads`, `writes`, `deletes`, `small`."""
    count: Estimate
    price: float
    """The price of 100,000 operations."""

    def cost(self, count: int) -> float:
        return count * self.price / 100_000


@dataclass(frozen=True)
class Bill:
    """Operations of a run at list prices, without the free quota."""

    lines: tuple[BillLine, ...]
    currency: str
    region: str
    """Empty: the prices are the user's own."""
    source: str
    """The source of the prices."""
    as_of: str
    """When the prices were read from that source; empty: not known."""

    @property
    def total(self) -> tuple[float, float, float]:
        """The likely cost, and the bounds of its interval."""
        counts = [(line, line.count) for line in self.lines]
        return (
            sum(line.cost(count.count) for line, count in counts),
            sum(line.cost(count.low) for line, count in counts),
            sum(line.cost(count.high) for line, count in counts),
        )


@dataclass(frozen=True)
class Forecast:
    """The shortest time that a run can take."""

    seconds: float
    limited_by: str
    """`ramp-up`, or `speed`: the measured speed of reading and handling in one process."""
    speed: float
    """Entities read and handled in a second."""
    ramp_s: float
    """Seconds that the ramp-up alone takes. Only a real project needs one."""


class Hazard(str, Enum):
    """What a plan warns about, so that no code has to compare messages."""

    ONE_VALUE = "one_value"
    RISING_VALUE = "rising_value"
    MOVES = "moves"
    NEAR_LIMIT = "near_limit"
    NOT_IDEMPOTENT = "not_idempotent"
    NEEDS_INDEX = "needs_index"
    UNFILTERED_DELETE = "unfiltered_delete"
    FAR_AWAY = "far_away"
    FAILURES = "failures"
    UNWRITTEN = "unwritten"
    EMPTY_QUERY = "empty_query"
    UNFINISHED_RUN = "unfinished_run"
    DONE_BEFORE = "done_before"
    SUCCESSOR = "successor"
    NAIVE_DATETIME = "naive_datetime"
    NUMBER_TYPE = "number_type"
    OTHER_NAMESPACE = "other_namespace"
    READS_EACH = "reads_each"
    BATCH_REPEATED = "batch_repeated"
    MISSPELLED = "misspelled"
    ABSENT = "absent"
    OTHER = "other"


@dataclass(frozen=True)
class PlanWarning:
    hazard: Hazard
    message: str


@dataclass(frozen=True)
class PlannedWork:
    """What was planned. A run that carries out the plan must match all of it except `spec`,
    `checksum`, `created` and `version`."""

    updater: str
    description: str
    spec: str
    """How to load the updater again: an absolute path or dotted name, with `:Name`."""
    checksum: str
    """SHA-256 of the source file."""
    code: str
    """SHA-256 of the code in it, without comments, blank lines and layout."""
    params: Mapping[str, str]
    target: TargetInfo
    fingerprint: str
    """Fingerprint of the query and of the target."""
    identity: str
    """Made from the updater's file name, parameters and query; the same on every machine."""
    created: datetime
    version: str
    """The version of bulkup."""
    selection: Selection = EVERYTHING
    """What narrows the updater's query."""


@dataclass(frozen=True)
class Plan:
    work: PlannedWork
    drawn: Drawn
    handled: int
    """Entities that the handler was called for."""
    total: Total
    predicted: Predicted
    kinds: tuple[ChangeKind, ...] = ()
    """The most frequent kinds of changes, the most frequent first."""
    more_kinds: int = 0
    """Writes of further kinds, which are only counted."""
    failure_groups: tuple[FailureGroup, ...] = ()
    other_failures: int = 0
    bill: Bill | None = None
    forecast: Forecast | None = None
    round_trip_s: float | None = None
    warnings: tuple[PlanWarning, ...] = field(default=())

    @property
    def is_sample(self) -> bool:
        return self.drawn is not Drawn.ALL


@dataclass(frozen=True)
class Planned:
    """The event that ends a plan."""

    plan: Plan
