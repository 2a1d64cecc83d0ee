"""The run record: everything Datastore keeps about a run, except its markers.

The record outlives the processes, machines and disks that work on the run. It names the process at
work, says until when nobody else may take over (the lease), and lists the shards. Together with the
markers this is enough to resume the run from anywhere.

Times are Unix time by the server's clock (see `datastore/server_time.py`), in whole seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

from bulkup.core.model import Counts, GateResult, RunState
from bulkup.core.plan_terms import PlanTerms
from bulkup.core.records import Origin, RunInfo, Shard
from bulkup.core.steering import UNSTEERED, Steering

LEASE_S = 60.0
"""A runner that has not renewed its lease for this long may be replaced."""

RENEW_S = 15.0
"""How often a runner renews its lease. Three renewals in a row may be lost."""

LOOK_EVERY_S = 4.0
"""How often a runner reads its record between renewals, so that whoever steers it from another
machine does not wait for the next one. That costs 900 reads an hour, less than a tenth of a cent.
"""


@dataclass(frozen=True)
class Holder:
    """The process that works, or last worked, on a run."""

    runner: str
    """Unique for each process."""
    who: str
    """user@host, for people."""
    machine: str
    """Host and boot id: process ids mean something only within one boot of one machine."""
    pid: int
    began: str
    """When the process started, as its system reports it: process ids are reused."""


@dataclass(frozen=True)
class LeaseTerms:
    """Who may work on a run, and until when."""

    holder: Holder | None = None
    until: int = 0
    """0: nobody works on the run."""
    generation: int = 0
    """Grows by one with each runner."""

    def is_held(self, now: float) -> bool:
        return self.holder is not None and self.until > now

    def heard_ago_s(self, now: float) -> float:
        """Seconds since the last renewal."""
        return LEASE_S - (self.until - now)


@dataclass(frozen=True)
class Layout:
    """How the run is cut into shards, and what must happen to the markers left behind."""

    shards: tuple[Shard, ...] = (Shard(1),)
    """None at all: every entity is done, only the end of the run is left (its `finish` raised)."""
    next_shard: int = 2
    """A shard id that was never used."""
    settled: Counts = field(default_factory=Counts)
    """Work that was done outside these shards."""
    fenced_until: int = 0
    """Before this time a marker of a former runner may still be needed."""
    sweep_at: int = 0
    """From this time on the markers of the finished run may be removed; 0: none are left."""
    sweep_seen: tuple[tuple[str, float], ...] = ()
    """Where the server does not tell its time: the machines that have seen `sweep_at`, and the time
    since their boot when they first did."""
    moved_in: str | None = None
    """The query orders or ranges on a property. An entity that changes there is read again, so only
    the checkpoint with this id knows which entities are done."""


@dataclass(frozen=True)
class Made:
    """How the entities that the run makes are told from those that it found
    (`engine/made_entities.py`). All unset while it has made none that its query may find."""

    since_ns: int = 0
    """What was created after this time of the server's is not handled. Unix time in nanoseconds."""
    record_ns: int = 0
    """When the run record was created. In a copy of the Datastore everything is created later."""
    known_in: str | None = None
    """Only the checkpoint with this id knows their keys."""


@dataclass(frozen=True)
class MigrationInfo:
    """Set when the run applies a migration."""

    name: str
    code: str
    """Checksum of the migration's code, without comments and layout."""
    marked: str | None = None
    """Who set the state by hand (`bulkup mark`); None: it was reached by running."""
    origin: Origin = field(default_factory=Origin)
    """Where the last runner ran."""
    former: tuple[str, ...] = ()
    """The names it had before (`bulkup mark --renamed-to`), oldest first. Its run id is made from
    the first."""

    @property
    def first_name(self) -> str:
        return self.former[0] if self.former else self.name


@dataclass(frozen=True)
class Chain:
    """Where a successor stands in its chain."""

    links: tuple[str, ...] = ()
    """How to find the successor, link by link, from the folder of the first updater. Empty for
    the first run."""
    work: str | None = None
    """The identity of the successor's own query; its `identity` is that of the first run."""


@dataclass(frozen=True)
class StopOrder:
    """Why a run that is cut into ranges was stopped for all who work on it."""

    state: RunState
    reason: str
    exit_code: int


@dataclass(frozen=True)
class RangePlan:
    """In the record of a run that is cut into ranges: how it is cut, and how those who work on the
    ranges share what there is. One of them conducts: it holds the run's lease, and keeps this up to
    date."""

    plan: str
    """Part of the ids of the ranges. Ranges of another plan are without effect: who planned them
    died before the run had any."""
    count: int
    """How many ranges were planned. Later ones were split off these."""
    edges: str
    """A checksum of the planned ranges' bounds."""
    base: Counts = field(default_factory=Counts)
    """What was done before the run was cut."""
    max_failures: str = "0"
    """The failure budget of the whole run, as `--max-failures` takes it."""
    max_rate: str = "auto"
    """As `--max-rate` takes it, for all together."""
    rate: float = 0.0
    """Entities per second for all together, now; 0: no limit."""
    workers: tuple[str, ...] = ()
    """Those who share the rate (`worker_of`). Nobody else may work while there is a limit."""
    at: int = 0
    """When somebody conducted last."""
    finished: int = 0
    """How many ranges are finished."""
    total: int = 0
    """How many there are, with those that were split off."""
    stop: StopOrder | None = None


@dataclass(frozen=True)
class RangePart:
    """In the record of a range: which part of the query is its own. Its shards may be smaller by
    now; nobody else works on the rest."""

    first: bytes
    """The serialized key that its first entity comes after, or, in a run that was not cut at first,
    a cursor; empty: it begins with the first entity of the query."""
    last: bytes
    """The same for its last entity; empty: it ends with the last entity of the query."""
    splits: int = 0
    """How many ranges were split off this one."""


@dataclass(frozen=True)
class RunRecord:
    """A run record as it was read or written. `version` 0: not in Datastore yet."""

    run_info: RunInfo
    state: RunState
    reason: str | None = None
    counts: Counts = field(default_factory=Counts)
    """The counts at the last renewal."""
    total: int | None = None
    """How many entities the query found when the run started; None: not known."""
    ended: int = 0
    """Unix time; 0: not ended."""
    lease: LeaseTerms = field(default_factory=LeaseTerms)
    layout: Layout = field(default_factory=Layout)
    migration: MigrationInfo | None = None
    chain: Chain = field(default_factory=Chain)
    made: Made = field(default_factory=Made)
    gate: GateResult | None = None
    """The dry pass that comes before the first write; None: none was asked for."""
    plan: PlanTerms | None = None
    """The plan that the run carries out; None: it has none."""
    kinds: tuple[str, ...] = ()
    """Those of its query, or of its list of keys; empty: all kinds, or an earlier version."""
    warm: tuple[float, ...] = ()
    """The traffic Datastore is ready for (`engine/throttle/ramp.py`); empty: not known."""
    undone_by: str = ""
    """The id of the run that has put back what this one changed; empty: none has."""
    undone_partly: bool = False
    """That one has not put back all of it."""
    steering: Steering = UNSTEERED
    """What the run is asked to be."""
    obeyed: int = 0
    """The number of the last steering that a runner has done."""
    ranges: RangePlan | None = None
    """The run is cut into ranges, which have all its shards; None: it is not."""
    part: RangePart | None = None
    """This is the record of a range; None: it is that of a run."""
    keep: bool = True
    """False: the record is removed once the run is finished and swept."""
    listed: bool = field(default=True, compare=False)
    """Once it is finished it is found by its end (`state/finished_runs.py`). False: an earlier
    version has finished it, or it is a finished successor."""
    version: int = 0
    claim_version: int = field(default=0, compare=False)
    """The version of the run's claim; 0: not known, or of a new record: it has none. Not stored."""
    created_ns: int = field(default=0, compare=False)
    """When the server created the record, in nanoseconds; 0: it does not say. Not stored."""

    def ended_at(self) -> datetime | None:
        """Never before its start, which has fractions of a second, by the starter's clock."""
        if not self.ended:
            return None
        started = datetime.fromisoformat(self.run_info.created)
        return max(datetime.fromtimestamp(self.ended, timezone.utc), started)
