"""Everything bulkup raises on purpose.

    BulkupError                    1   something ended the work; the message says what to do next
    ├── UsageError                 2   the command or the updater is used wrongly
    │   ├── ParameterError         2   an updater parameter: unknown, missing, not convertible
    │   ├── QueryError             2   get_query gave something bulkup cannot page through
    │   └── MismatchError          2   a resume that does not fit the run it names
    ├── NotFoundError             10   no such updater, no such run
    ├── HeldError                 11   another runner holds this run
    ├── UpdaterError               1   the user's code failed outside handle_entity
    ├── TargetError                1   the Datastore: unreachable, forbidden, not there
    ├── StateError                 1   the local run state: damaged, not writable
    └── StopAskedError      130, 143   the user said stop before there was anything to stop

Each error's text is one sentence for a tired person: what happened to what, and what to type
next. Anything else that reaches the command line is a bug of bulkup's and says so.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of the command line contract. An unknown one means failure."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DONE_WITH_FAILURES = 3
    PENDING = 4
    """Of `bulkup status --check` alone."""
    NOT_FOUND = 10
    HELD = 11
    LIMIT = 75
    SIGINT = 130
    SIGTERM = 143

    def __str__(self) -> str:
        return str(self.value)  # Python 3.10 would say the name


class BulkupError(Exception):
    """Base of all errors of bulkup; `exit_code` is what the command line exits with.

    `details` are further lines for the reader (a trimmed traceback, an index definition);
    they are shown below the sentence.
    """

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details


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


class UpdaterError(BulkupError):
    pass


class TargetError(BulkupError):
    pass


class StateError(BulkupError):
    pass


class StopAskedError(BulkupError):
    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code
