"""The interface of every printer of events."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bulkup.core.closing import Closing
from bulkup.core.errors import BulkupError
from bulkup.core.events import Event

Handlers = Mapping[type[Any], Callable[[Any], None]]
"""By event type. Events of other types are not printed."""


@dataclass(frozen=True)
class Delivery:
    """The outcome of delivering a report: saved or mailed, or why not.

    A failed delivery is shown to the user and changes nothing about the run or its exit code.
    """

    channel: str
    """`file`, `mail`, `webhook` or `github`."""
    ok: bool
    message: str
    """One clean sentence."""


class ProgressStyle(str, Enum):
    """The values of `--progress`."""

    AUTO = "auto"
    PLAIN = "plain"
    TTY = "tty"
    JSON = "json"


class Printer(Closing):
    """A listener of the engine's events; called from one thread.

    Always close it (`with make_printer(...) as printer:`): it may have drawn a bar, or have
    replaced `sys.stdout`. It does not raise when an output stream fails.
    """

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Print `event`, or ignore it."""

    @abstractmethod
    def delivered(self, delivery: Delivery) -> None:
        """Print what `save_report`, `send_report` or `post_report` did."""

    @abstractmethod
    def error(self, error: BulkupError) -> None:
        """Print the error that ended the command, and its details."""

    @abstractmethod
    def status(self) -> None:
        """Print one line on how the run is doing, on request. May be called from another thread at
        any time."""

    def line(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print a JSON line that belongs to no event; does nothing unless this printer prints
        JSON."""

    @abstractmethod
    def close(self) -> None:
        """Restore the terminal and `sys.stdout`. May be called twice."""
