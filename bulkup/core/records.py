"""What the checkpoint, the markers and the run record share."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeGuard

from bulkup.core.model import TargetInfo
from bulkup.core.selection import EVERYTHING, Selection


class Source(Protocol):
    """What a run remembers of its updater's source."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def spec(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def checksum(self) -> str: ...


@dataclass(frozen=True)
class NoSource:
    """The source of a record that loads no updater: a lock, or a migration marked by hand."""

    name: str
    description: str = ""
    spec: str = ""
    path: str = ""
    checksum: str = ""


@dataclass(frozen=True)
class RunInfo:
    """What is fixed about a run when it starts. Stored as JSON, so its fields keep their names."""

    run_id: str
    updater: str
    description: str
    spec: str
    """How to load the updater again: an absolute path or dotted name, with `:Name`."""
    source_path: str
    checksum: str
    params: dict[str, str]
    target: TargetInfo
    fingerprint: str
    """Fingerprint of the query and of the target it runs on."""
    identity: str
    """The same for every run of this updater with these parameters and this query, anywhere."""
    created: str
    """ISO 8601, UTC."""
    keys: str = ""
    """Digest of the list of keys that it works on instead of a query's results; empty: none."""
    retry_of: str = ""
    """The id of the run whose failed entities it handles again; empty: it is not a retry."""
    passes: tuple[int, ...] | None = None
    """With `--until-clean`: how much each earlier pass has written; None if the run is not
    repeated."""
    since_ns: int = 0
    """Only entities that were changed after this server time, in nanoseconds; 0: all."""
    selection: Selection = EVERYTHING
    """What narrows the updater's query."""

    @property
    def is_repeated(self) -> bool:
        """Whether it is a further pass of a run that finished before."""
        return bool(self.passes)

    def stored(self) -> dict[str, Any]:
        """As JSON, without unset fields that an earlier version would not know."""
        return {
            name: value
            for name, value in {**asdict(self), "selection": self.selection.stored()}.items()
            if name not in _ADDED or value or value == ()
        }

    @classmethod
    def new(
        cls,
        run_id: str,
        source: Source,
        params: Mapping[str, str],
        target: TargetInfo,
        *,
        identity: str,
        fingerprint: str = "",
        created: datetime,
    ) -> RunInfo:
        return cls(
            run_id=run_id,
            updater=source.name,
            description=source.description,
            spec=source.spec,
            source_path=source.path,
            checksum=source.checksum,
            params=dict(params),
            target=target,
            fingerprint=fingerprint,
            identity=identity,
            created=created.isoformat(),
        )


_ADDED = frozenset({"keys", "retry_of", "passes", "since_ns", "selection"})
"""Fields that the first version did not have."""


@dataclass(frozen=True)
class Origin:
    """Where a runner ran, according to its environment; empty strings for what is not known."""

    version: str = ""
    """The version of bulkup."""
    ci_job: str = ""
    """Address of the job's page."""
    git_commit: str = ""


@dataclass(frozen=True)
class Shard:
    """A key range of the query, scanned by its own cursor chain.

    There are two kinds of bounds. Keys narrow the query itself and may be set anywhere. A cursor
    is valid only for the exact query that returned it (its key bounds included), so a shard can
    only start or end at a cursor that its own query has returned.
    """

    id: int
    start: bytes = b""
    """Scan after this cursor; empty: from the first entity."""
    end: bytes = b""
    """Scan up to and including this cursor; empty: to the last entity."""
    low_number: int = 0
    """Low-water mark: every batch up to this one is done."""
    low_cursor: bytes = b""
    """Every entity up to this cursor is done."""
    done: bool = False
    after: bytes = b""
    """Only entities with a larger key than this serialized one; empty: from the first."""
    upto: bytes = b""
    """Only entities with at most this serialized key; empty: to the last."""

    @property
    def unbegun(self) -> Shard:
        """The same range, with no progress."""
        return replace(self, low_number=0, low_cursor=self.start, done=False)


def new_run_id(now: datetime) -> str:
    """A new run id. Run ids sort by the time they were created, even within a second."""
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 100:04d}{uuid.uuid4().hex[:2]}"


def first_id(run_id: str) -> str:
    """The id of the first run of the chain that a run belongs to."""
    return run_id.partition("+")[0]


_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@~-]*(\+[1-9][0-9]*)?")

MAX_RUN_ID_LENGTH = 255
"""A run's folder is named after the run's id."""


def is_run_id(value: object) -> TypeGuard[str]:
    """Whether bulkup may have made this id. Any other may come from a record that somebody else
    wrote, and must not become part of a path."""
    if not isinstance(value, str) or len(value) > MAX_RUN_ID_LENGTH:
        return False
    return _RUN_ID.fullmatch(value) is not None


def next_id(run_id: str) -> str:
    """The id of a run's successor. It is derived from the run's own id, so there is only one."""
    first, plus, number = run_id.rpartition("+")
    return f"{first}+{int(number) + 1}" if plus else f"{run_id}+1"


def group_of(run_id: str) -> str | None:
    """The id of the group that a run in a namespace belongs to; None if there is none."""
    group, at, _ = run_id.partition("@")
    return group if at else None


def predecessor_of(run_id: str) -> str:
    """The id of the run before this one in its chain; empty for the first."""
    first, plus, number = run_id.rpartition("+")
    if not plus:
        return ""
    return f"{first}+{int(number) - 1}" if int(number) > 1 else first
