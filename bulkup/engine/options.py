"""The options of a runner, as the command line or Python sets them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from bulkup.core.errors import UsageError
from bulkup.core.max_failures import MaxFailures
from bulkup.core.plan_terms import MaxDrift
from bulkup.core.secrets import without_secrets
from bulkup.core.steering import Tuning
from bulkup.core.window import Window
from bulkup.engine.batches import MAX_BATCH_SIZE
from bulkup.engine.throttle.concurrency import MAX_IN_FLIGHT
from bulkup.engine.throttle.max_rate import MaxRate

AUTO_SHARDS = 8
"""The default on a real project, where reading a page costs a round trip."""

MAX_SHARDS = 64
MAX_PROCESSES = 64

_AUTO_RATE = MaxRate()
_DRIFT = MaxDrift()

_KEPT = (
    "batch_size", "in_flight", "shards", "processes", "max_rate", "max_failures", "max_drift",
    "no_undo", "health_url", "health_cmd", "max_hold_s", "window",
)  # fmt: skip
_AS_TEXT = {"max_rate": MaxRate.parse, "max_drift": MaxDrift.parse}
"""Options that are stored as they are typed."""
_WHEN = ("window", "health_url", "health_cmd")
"""The kept options that say when the run may work."""
OFF = "off"
"""The value of `health_url`, `health_cmd` or `window` that sets none, although the run's last
runner had one."""


@dataclass(frozen=True)
class Options:
    """How a runner works. Nothing here changes what a run does to its entities."""

    batch_size: int = MAX_BATCH_SIZE
    in_flight: int | None = None
    """Commits of a shard in flight at once. None: as many as keep reading busy."""
    shards: int | None = None
    """Shards worked on at once. None: AUTO_SHARDS on a real project, else 1."""
    max_rate: MaxRate = _AUTO_RATE
    processes: int = 1
    """Worker processes that run the updater. 1: it runs in this process."""
    limit: int | None = None
    """Stop after this many entities."""
    max_time_s: float | None = None
    retry_for_s: float = 600.0
    conflict_retries: int = 8
    max_failures: int | str | None = None
    """What `MaxFailures.of` reads: 10, -1, "1%". None: the updater's own."""
    max_drift: MaxDrift = _DRIFT
    """How far a run may differ from its plan, if it has one."""
    dry_run: bool = False
    gate_pass: bool = False
    """This dry run is the pass that comes before the first write (`--gate clean`)."""
    health_url: str | None = None
    """Work only while this URL answers with 200 to 299. It may hold a password."""
    health_cmd: str | None = None
    """Work only while this shell command exits with 0."""
    max_hold_s: float | None = None
    """Stop when a health check has held the run for this long; None: wait."""
    window: str | None = None
    """Work only in this part of the day; a value of `Window.parse`, with its zone."""
    no_undo: bool = False
    """Keep no before-images, so that the run cannot be undone."""

    def __post_init__(self) -> None:
        """Raises UsageError. The command line has its own checks; for Python these are the only
        ones."""
        for name, value, low, high in (
            ("batch_size", self.batch_size, 1, MAX_BATCH_SIZE),
            ("in_flight", self.in_flight, 1, MAX_IN_FLIGHT),
            ("shards", self.shards, 1, MAX_SHARDS),
            ("processes", self.processes, 1, MAX_PROCESSES),
            ("limit", self.limit, 1, math.inf),
            ("retry_for_s", self.retry_for_s, 0, math.inf),
            ("conflict_retries", self.conflict_retries, 0, math.inf),
            ("max_hold_s", self.max_hold_s, 0, math.inf),
        ):
            if value is not None and not low <= value <= high:
                at_most = f" and at most {high}" if high < math.inf else ""
                raise UsageError(f"{name} is {value}; it must be at least {low}{at_most}")
        if self.max_failures is not None:
            try:
                given = MaxFailures.of(self.max_failures)
            except UsageError as error:
                raise UsageError(f"max_failures: {error.message}") from None
            object.__setattr__(self, "max_failures", given.stored)
        if self.window not in (None, OFF):
            object.__setattr__(self, "window", str(Window.parse(self.window)))
        if self.health_url not in (None, OFF):
            checked_url(self.health_url)

    def asked(self) -> dict[str, Any]:
        """The options that the run's next runner keeps, as far as they differ from the defaults.

        As JSON values, for the checkpoint; `or_as` reads them.
        """
        asked = {
            name: getattr(self, name)
            for name in _KEPT
            if getattr(self, name) != getattr(Options, name)
        }
        return asked | {name: str(asked[name]) for name in _AS_TEXT if name in asked}

    def or_as(self, asked: Mapping[str, Any]) -> Options:
        """These options, but with an earlier runner's value wherever these have the default."""
        missing = {name: asked[name] for name in asked.keys() - self.asked().keys()}
        missing |= {
            name: parse(missing[name]) for name, parse in _AS_TEXT.items() if name in missing
        }
        return replace(self, **missing)

    def tuned(self, tuning: Tuning) -> Options:
        """These options, as `bulkup tune` has changed them. Raises UsageError."""
        changes = tuning.stored()
        if tuning.max_rate is not None:
            changes["max_rate"] = MaxRate.parse(tuning.max_rate)
        if tuning.in_flight == 0:
            changes["in_flight"] = None
        return replace(self, **changes)

    def dropped_when(self, asked: Mapping[str, Any]) -> list[str]:
        """The options that said when an earlier runner might work, and that are not set now."""
        own = self.asked()
        return [name for name in _WHEN if asked.get(name, OFF) != OFF and name not in own]

    def words(self, *, but: Collection[str] = ()) -> list[str]:
        """`asked` as command-line words, without the options that `but` names. A health check that
        holds a secret is left out, because these words are printed; the run keeps it."""
        words: list[str] = []
        for name, value in self.asked().items():
            if name in but:
                continue
            if name == "health_url" and value != OFF and _has_secret(value):
                continue
            if name == "health_cmd" and without_secrets(value) != value:
                continue
            if name == "max_hold_s":
                name, value = "max_hold", f"{value:g}s"
            words += [f"--{name.replace('_', '-')}", *(() if value is True else (str(value),))]
        return words


def checked_url(url: str) -> str:
    """Returns the URL. Raises UsageError unless it is an HTTP URL; the message leaves the URL out,
    because it may hold a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise UsageError(
            "the URL of the health check (--health-url) does not begin with http:// or https:// "
            "and the name of a host"
        )
    return url


def _has_secret(url: str) -> bool:
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(parts.query) or without_secrets(url) != url
