"""What to rehearse, on which copy, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bulkup.core.selection import EVERYTHING, Selection
from bulkup.engine.options import Options
from bulkup.runs.prices import Prices, prices_for
from bulkup.runs.target import TargetOptions

DEFAULT_KILLS = 5
OPTIONS = Options(max_hold_s=30.0, retry_for_s=60.0)
"""A pass must not wait forever: if its updater is not `healthy`, it ends with the reason."""


@dataclass(frozen=True)
class Step:
    """What a rehearsal is doing."""

    title: str
    """For example, `Run add_full_name`."""
    done: int = 0
    """How many entities are done."""
    total: int | None = None


@dataclass(frozen=True)
class Updater:
    """What is rehearsed: one updater with its successors."""

    spec: str
    params: Mapping[str, str] = field(default_factory=dict)
    selection: Selection = EVERYTHING


@dataclass(frozen=True)
class Migrations:
    """What is rehearsed: all pending migrations of a folder, each on the data that those before it
    left."""

    folder: str
    params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


Watch = Callable[[str, int, int | None], None]
"""Receives the current step, how many entities are done, and of how many. May raise."""
Fill = Callable[[Path, Watch], tuple[str, ...]]
"""Makes the file of the copy; returns a sentence for each thing that it left out."""


@dataclass(frozen=True)
class Request:
    what: Updater | Migrations
    source: str
    """As the user gave it."""
    target: TargetOptions = field(default_factory=TargetOptions)
    """The target that the entities belong to; `local` is ignored."""
    fill: Fill | None = None
    """Makes the copy from an export; None: `source` is a file of the embedded Datastore."""
    sample: str = ""
    options: Options = OPTIONS
    allow_empty: bool = False
    prices: Prices = field(default_factory=prices_for)
    second: bool = True
    """Whether to run the same work once more."""
    kills: int = DEFAULT_KILLS
    """How many times to kill the crash pass; 0: leave it out."""
