"""What every printer of events has."""

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
"""By event type. Types that are missing are not printed."""


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
    """What `--progress` takes."""

    AUTO = "auto"
    PLAIN = "plain"
    TTY = "tty"
    JSON = "json"


class Printer(Closing):
    """A listener of the engine's events; called from one thread.

    Always close it (`with make_printer(...) as printer:`): it may have drawn a bar, or have
    replaced `sys.stdout`. It does not raise when an output is gone.
    """

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Print `event`, or not."""

    @abstractmethod
    def delivered(self, delivery: Delivery) -> None:
        """Print what `save_report`, `send_report` or `post_report` did."""

    @abstractmethod
    def error(self, error: BulkupError) -> None:
        """Print the error that ended the command, and its details."""

    @abstractmethod
    def status(self) -> None:
        """Print in a line how the run is doing, because somebody asks. May be called from another
        thread at any time."""

    def line(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print a line that is about none of the events, if JSON lines are printed at all."""

    @abstractmethod
    def close(self) -> None:
        """Restore the terminal and `sys.stdout`. May be called twice."""
