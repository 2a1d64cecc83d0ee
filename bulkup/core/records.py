"""The facts that checkpoint, markers and ledger share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bulkup.core.model import TargetInfo


@dataclass(frozen=True)
class RunInfo:
    """What is fixed about a run when it begins."""

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
    """Of the query and the target it runs on."""
    identity: str
    """The same for every run of this updater with these parameters and this query, anywhere."""
    created: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Origin:
    """Where a runner came from, as its environment says; empty where it does not."""

    version: str = ""
    """Of bulkup."""
    ci_job: str = ""
    """Address of the job's page."""
    git_commit: str = ""


@dataclass(frozen=True)
class Shard:
    """A stretch of the query with its own chain of cursors and batches.

    Two kinds of bounds: keys narrow the query itself, and may be set anywhere; a cursor belongs to
    the very query it came from, so it is set where that query, keys included, has been.
    """

    id: int
    start: bytes = b""
    """Scan behind this cursor; empty: from the first entity."""
    end: bytes = b""
    """Scan up to and with this cursor; empty: to the last entity."""
    low_number: int = 0
    """Every batch up to this one is done."""
    low_cursor: bytes = b""
    """Every entity up to this cursor is done."""
    done: bool = False
    after: bytes = b""
    """Only entities with a larger key than this serialized one; empty: from the first."""
    upto: bytes = b""
    """Only entities with at most this serialized key; empty: to the last."""

    @property
    def unbegun(self) -> Shard:
        """The same stretch, without what is known of its progress."""
        return replace(self, low_number=0, low_cursor=self.start, done=False)


def next_id(run_id: str) -> str:
    """The id of a run's successor: it follows from the run's own, so there can be but one."""
    first, plus, number = run_id.rpartition("+")
    return f"{first}+{int(number) + 1}" if plus else f"{run_id}+1"


def predecessor_of(run_id: str) -> str:
    """The id of the run before it in its chain; empty for the first."""
    first, plus, number = run_id.rpartition("+")
    if not plus:
        return ""
    return f"{first}+{int(number) - 1}" if int(number) > 1 else first
