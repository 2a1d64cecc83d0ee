"""Everything bulkup raises on purpose.

    BulkupError                    1   an error ended the run; the message says what to do next
    ├── UsageError                 2   the command or the updater is not valid
    │   ├── ParameterError         2   an updater's parameter is unknown, missing or not valid
    │   ├── QueryError             2   get_query returned something bulkup cannot page through
    │   └── MismatchError          2   what is to be resumed does not match what was started
    ├── NotFoundError             10   no such updater, no such run
    ├── HeldError                 11   another runner holds this run
    ├── ApprovalError              1   the target requires an approved plan, and there is none
    ├── UpdaterError               1   the user's code failed outside handle_entity
    ├── TargetError                1   Datastore is unreachable, forbidden or does not exist
    │   └── NoTargetError          1   nothing says which Datastore, or how to log in to it
    ├── PendingError               4   the applied migrations differ from those in the folder
    ├── StateError                 1   the run state is damaged or not writable
    └── StopAskedError  12, 130, 143   the user stopped the command before the run
                                       started, or while Datastore did not answer

Each message is one sentence: what happened to what, then what to type. Any other exception that
reaches the command line is a bug in bulkup and is reported as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from bulkup.core.secrets import without_secrets


class Exit(IntEnum):
    """The exit codes of the command line. A code that is not listed here means failure."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DONE_WITH_FAILURES = 3
    PENDING = 4
    """`bulkup verify`: an entity is not done. `bulkup status --check`: something is pending or
    wrong. `bulkup migrate`: an applied migration is not in the folder. `bulkup diff`: the sides
    differ. `bulkup run --until-clean`: the last pass still wrote something. `bulkup rehearse`: a
    crash changes the outcome, or `idempotent = True` is not true."""
    NOT_FOUND = 10
    HELD = 11
    CANCELLED = 12
    """Somebody has cancelled the run (`bulkup cancel`); resume continues it."""
    LIMIT = 75
    SIGINT = 130
    SIGTERM = 143

    def __str__(self) -> str:
        return str(self.value)  # Python 3.10 would print the name


class BulkupError(Exception):
    """Base of bulkup's errors. `exit_code` is the exit code of the command line.

    `details` are more lines for the reader (a trimmed traceback, an index definition), shown below
    the message. `next_steps` are the commands that the message proposes, ready for a shell.
    """

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, *, details: str = "", next_steps: Sequence[str] = ()) -> None:
        super().__init__(without_secrets(message))
        self.message = without_secrets(message)
        self.details = without_secrets(details)
        self.next_steps = tuple(map(without_secrets, next_steps))


class UsageError(BulkupError):
    exit_code = Exit.USAGE


class ParameterError(UsageError):
    pass


class QueryError(UsageError):
    pass


class MismatchError(UsageError):
    pass


class NotFoundError(BulkupError):
    exit_code = Exit.NOT_FOUND


class HeldError(BulkupError):
    exit_code = Exit.HELD


class ApprovalError(BulkupError):
    pass


class UpdaterError(BulkupError):
    pass


class TargetError(BulkupError):
    pass


class NoTargetError(TargetError):
    """Neither the command nor the environment says which Datastore, or how to log in to it."""


class PendingError(BulkupError):
    exit_code = Exit.PENDING


class StateError(BulkupError):
    pass


class StopAskedError(BulkupError):
    def __init__(self, message: str, exit_code: Exit, *, next_steps: Sequence[str] = ()) -> None:
        super().__init__(message, next_steps=next_steps)
        self.exit_code = exit_code
