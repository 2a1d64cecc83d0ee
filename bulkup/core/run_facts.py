"""Everything that is reported about a run: what its page, `bulkup report` and `bulkup serve` show.

The facts come only from the run's folder (`runs/run_facts.py`), or from a bundle. Their size is
bounded, however large the run was: failures are groups with their first keys, changes are samples.
Every string that comes from entities, exceptions, servers or users is untrusted, and a printer must
escape it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from bulkup.core.changes import WouldChange
from bulkup.core.events import Report
from bulkup.core.model import Counts
from bulkup.core.operations import OperationCounts
from bulkup.core.records import Origin
from bulkup.core.vitals import Sample


@dataclass(frozen=True)
class RunnerFacts:
    """One process that has worked on the run."""

    number: int
    """The generation of the run record: 1 for the first one, as in `Sample.runner`."""
    who: str = ""
    """user@host; empty: not known."""
    origin: Origin = field(default_factory=Origin)
    """The version of bulkup, the CI job and the git commit."""
    python: str = ""
    system: str = ""
    """`Linux-6.1.0-x86_64`."""
    began: float = 0.0
    """Unix time; 0: not known."""
    ended: float | None = None
    """None if it is still working, or was killed."""
    state: str = ""
    """The run's state when it ended; empty if it has not ended, or was killed."""
    reason: str = ""
    retries: int = 0
    """Calls that it sent again."""
    operations: OperationCounts | None = None
    """None: not known."""
    warnings: tuple[str, ...] = ()
    """The first ones."""


@dataclass(frozen=True)
class ChainLink:
    """A run of the chain that this one belongs to."""

    run_id: str
    updater: str = ""
    """Empty if the run's folder is not in the state directory."""
    state: str = ""
    """A value of `RunState`, or `killed`; empty in the same case as `updater`."""
    counts: Counts | None = None
    is_this: bool = False


@dataclass(frozen=True)
class Incident:
    """Something that happened at one moment of the run: it was paused, tuned, held, resumed."""

    at: float
    """Unix time."""
    what: str
    """`paused`, `max-rate 200/s`."""
    by: str = ""
    """user@host; empty: bulkup itself."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of one run, or of the runs in several namespaces (`report.spaces`)."""

    report: Report
    read_at: datetime
    """When these facts were read: a run in progress has continued since."""
    runners: tuple[RunnerFacts, ...] = ()
    """In order. If there were very many, only the last ones; see `report.runners`."""
    samples: tuple[Sample, ...] = ()
    """The timeline, oldest first. Empty if the run was made by an earlier version."""
    changes: tuple[WouldChange, ...] = ()
    """Samples of each kind of change, if the run has kept before-images."""
    changes_total: int = 0
    """Writes of the run."""
    changes_note: str = ""
    """Why `changes` are missing or incomplete; empty if they are complete."""
    chain: tuple[ChainLink, ...] = ()
    """All runs of its chain, in order; empty if the run is not part of a chain."""
    incidents: tuple[Incident, ...] = ()
    source_path: str = ""
    """The updater's file."""
    checksum: str = ""
    """Checksum of the updater's source."""
