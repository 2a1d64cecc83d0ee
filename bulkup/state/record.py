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
"""How often a runner reads its record between renewals, so that steering from another machine does
not have to wait for the next renewal. That costs 900 reads an hour, less than a tenth of a cent."""


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
    """Empty: every entity is done, and only the end of the run is left (its `finish` raised)."""
    next_shard: int = 2
    """A shard id that has never been used."""
    settled: Counts = field(default_factory=Counts)
    """The counts of work that was done outside these shards."""
    fenced_until: int = 0
    """Until this time, a marker of a former runner may still be needed."""
    sweep_at: int = 0
    """From this time on, the markers of the finished run may be removed; 0: none are left."""
    sweep_seen: tuple[tuple[str, float], ...] = ()
    """If the server does not report its time: the machines that have seen `sweep_at`, each with the
    time since its boot when it first did."""
    moved_in: str | None = None
    """Set if the query orders or ranges on a property. An entity whose property changes is read
    again, so only the checkpoint with this id knows which entities are done."""


@dataclass(frozen=True)
class Made:
    """How to tell the entities that the run makes from those it found (`engine/made_entities.py`).
    All fields are unset until it makes entities that its query may find."""

    since_ns: int = 0
    """Entities created after this server time are not handled. Unix time in nanoseconds."""
    record_ns: int = 0
    """When the run record was created. In a copy of the Datastore, everything is created later."""
    known_in: str | None = None
    """Only the checkpoint with this id knows the keys of the entities made."""


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
    """Its earlier names (`bulkup mark --renamed-to`), oldest first. Its run id is made from the
    first."""

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
    """The identity of the successor's own query. The run's `identity` is that of the first run."""


@dataclass(frozen=True)
class StopOrder:
    """Why a run that is cut into ranges was stopped for all who work on it."""

    state: RunState
    reason: str
    exit_code: int


@dataclass(frozen=True)
class RangePlan:
    """In the record of a run that is cut into ranges: how it is cut, and how its workers share the
    failure budget and the rate. One of them conducts: it holds the run's lease, and keeps this up
    to date."""

    plan: str
    """Part of the ranges' ids. Ranges of another plan have no effect: whoever planned them died
    before the run was cut."""
    count: int
    """How many ranges were planned. Later ones were split off these."""
    edges: str
    """A checksum of the planned ranges' bounds."""
    base: Counts = field(default_factory=Counts)
    """The counts of what was done before the run was cut."""
    max_failures: str = "0"
    """The failure budget of the whole run, as `--max-failures` takes it."""
    max_rate: str = "auto"
    """The limit for all workers together, as `--max-rate` takes it."""
    rate: float = 0.0
    """The current limit for all workers together, in entities per second; 0: no limit."""
    workers: tuple[str, ...] = ()
    """The workers that share the rate (`worker_of`). No other may work while there is a limit."""
    at: int = 0
    """When a worker last conducted."""
    finished: int = 0
    """How many ranges are finished."""
    total: int = 0
    """How many ranges there are, including those that were split off."""
    stop: StopOrder | None = None


@dataclass(frozen=True)
class RangePart:
    """In the record of a range: which part of the query it covers. Its shards may cover less by
    now; nobody else works on the rest."""

    first: bytes
    """The serialized key after which its entities begin (or a cursor, if the run was cut later than
    at its start); empty: they begin with the first entity of the query."""
    last: bytes
    """Likewise, the key or cursor up to which they go; empty: to the last entity of the query."""
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
    """The kinds in its query or its list of keys; empty: all kinds, or an earlier version."""
    warm: tuple[float, ...] = ()
    """The traffic Datastore is ready for (`engine/throttle/ramp.py`); empty: not known."""
    undone_by: str = ""
    """The id of the run that has put back what this one changed; empty: none has."""
    undone_partly: bool = False
    """Whether that run put back only part of it."""
    steering: Steering = UNSTEERED
    """The state and the tuning that the run was last asked for."""
    obeyed: int = 0
    """The number of the last steering request that a runner has carried out."""
    ranges: RangePlan | None = None
    """Set if the run is cut into ranges, which then have all its shards."""
    part: RangePart | None = None
    """Set in the record of a range; None in the record of a run."""
    keep: bool = True
    """False: the record is removed once the run is finished and swept."""
    listed: bool = field(default=True, compare=False)
    """Whether the run, once finished, can be found by when it ended (`state/finished_runs.py`).
    False: an earlier version finished it, or it is a finished successor."""
    version: int = 0
    claim_version: int = field(default=0, compare=False)
    """The version of the run's claim; 0: not known, or a new record without a claim. Not stored."""
    created_ns: int = field(default=0, compare=False)
    """When the server created the record, in nanoseconds; 0: not known. Not stored."""

    def ended_at(self) -> datetime | None:
        """When the run ended, but never before its start, which has fractions of a second and is
        by the starter's clock."""
        if not self.ended:
            return None
        started = datetime.fromisoformat(self.run_info.created)
        return max(datetime.fromtimestamp(self.ended, timezone.utc), started)
