"""The messages between a rehearsal and the process of one of its passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.model import TargetInfo
from bulkup.core.operations import Operations
from bulkup.core.rehearsal import RehearsedRun
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.engine.options import Options
from bulkup.runs.target import TargetOptions


@dataclass(frozen=True)
class UpdaterJob:
    """Run an updater and its successors."""

    spec: str
    params: Mapping[str, str]
    selection: Selection = EVERYTHING
    fresh: bool = False
    """Run even if the same work was done before."""
    only_load: bool = False
    """Only find out whether it can be loaded."""


@dataclass(frozen=True)
class MigrateJob:
    """Apply the migrations of a folder up to and including `up_to`; None: only report which are
    pending."""

    folder: str
    up_to: str | None = None
    params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    work: UpdaterJob | MigrateJob
    target: TargetOptions
    """`local` is the copy."""
    state_dir: str
    options: Options
    source: str
    """The name of the data in messages, in place of that of the copy."""
    address: str = ""
    """Where the rehearsal serves the copy; empty: the pass serves it itself."""
    allow_empty: bool = False


# --- from the pass ---


@dataclass(frozen=True)
class Progressed:
    handled: int
    total: int | None


@dataclass(frozen=True)
class Pending:
    """The migrations that would be applied, in order: name, file, and parameters."""

    migrations: tuple[tuple[str, str, Mapping[str, str]], ...]
    target: TargetInfo


@dataclass(frozen=True)
class Refusal:
    """An error that has ended the pass."""

    name: str
    """The class of the error."""
    message: str
    details: str
    next_steps: tuple[str, ...]
    exit_code: Exit

    @classmethod
    def of(cls, error: BulkupError, named: Callable[[str], str] = str) -> Refusal:
        """`named`: replaces the name of the copy by the name that the user knows."""
        return cls(
            type(error).__name__,
            named(error.message),
            named(error.details),
            error.next_steps,
            error.exit_code,
        )

    def error(self) -> BulkupError:
        made = BulkupError(self.message, details=self.details, next_steps=self.next_steps)
        made.exit_code = self.exit_code
        return made


@dataclass(frozen=True)
class Ended:
    runs: tuple[RehearsedRun, ...]
    operations: Operations
    """Operations of this process, including those on bulkup's own records."""
    target: TargetInfo | None
    claims_idempotent: bool | None = None
    """The updater's own `idempotent`; None: it says nothing, or migrations were applied."""
    refusal: Refusal | None = None


Message = Progressed | Pending | Ended
