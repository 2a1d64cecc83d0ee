"""How a run went, as one line of JSON per sample: `timeline.jsonl` in the run's folder.

A sample is written about every second. Once there are MOST_LINES, every other one is dropped, and
from then on samples are taken half as often. So the timeline of a run that takes days stays small
and evenly spaced. The first line says how far apart the samples are. A resumed run continues the
file; if a runner was killed, its last line may be torn.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bulkup.core.clock import timestamp
from bulkup.core.errors import StateError
from bulkup.core.events import Event, Progress
from bulkup.core.model import Counts
from bulkup.core.vitals import Phase, Sample, Vitals, Waits

TIMELINE_NAME = "timeline.jsonl"
MOST_LINES = 2000
FIRST_EVERY_S = 1.0
EARLY_S = 0.2
"""A sample may be this early, because samples are taken when progress is emitted, which is about
every second."""
MOST_BYTES = 8 * 1024 * 1024
"""No more than this is read. A line has a few hundred bytes."""
_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)


class Timeline:
    """A listener that keeps samples of one runner's Progress. `runner`: its generation.

    `on_loss` is called once, with a sentence, when the file cannot be written. After that nothing
    more is written: a full disk is no reason to end a run.
    """

    def __init__(
        self,
        folder: Path,
        runner: int,
        *,
        on_loss: Callable[[str], None] = lambda _: None,
        unix: Callable[[], float] = timestamp,
    ) -> None:
        self._path = folder / TIMELINE_NAME
        self._runner = runner
        self.on_loss = on_loss
        self._unix = unix
        self._descriptor: int | None = None
        self._is_lost = False
        self._every_s = FIRST_EVERY_S
        self._lines = 0
        self._last: Sample | None = None
        """The last sample that was written."""
        self._latest: Sample | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._latest = _sample_of(event, self._runner, self._unix())
            self.add(self._latest)

    def add(self, sample: Sample, *, always: bool = False) -> None:
        """Write a sample if one is due, or if the runner's phase has changed. `always`: write it in
        any case."""
        last = self._last
        is_due = last is None or sample.at - last.at >= self._every_s - EARLY_S
        # A clock that was set back must not end the timeline.
        is_due = is_due or (last is not None and sample.at < last.at)
        changed = last is not None and sample.phase is not last.phase
        if self._is_lost or not (is_due or changed or always):
            return
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            os.write(self._descriptor, line_of(sample).encode())
            self._last = sample
            self._lines += 1
            if self._lines >= MOST_LINES:
                self._thin_out()
        except OSError as error:
            self._lose(error)

    def close(self) -> None:
        """Write the latest sample, so that the timeline ends where the runner did."""
        if self._latest is not None and self._latest is not self._last:
            self.add(self._latest, always=True)
        self._latest = None
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        # Never write through a link: it may lead to any of the user's files.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        os.fchmod(self._descriptor, 0o600)  # whatever the umask is
        stored = os.pread(self._descriptor, MOST_BYTES, 0)
        if not stored:
            os.write(self._descriptor, _header(self._every_s).encode())
            return
        if not stored.endswith(b"\n"):
            os.write(self._descriptor, b"\n")  # after the torn line of a runner that was killed
        lines = stored.decode(errors="replace").splitlines()
        self._every_s = _every_s(lines)
        self._lines = len(lines)

    def _thin_out(self) -> None:
        """Keep every other sample. Raises OSError and then leaves the file unchanged."""
        samples = list(samples_of(self._path.read_text(errors="replace").splitlines()))
        kept = [
            sample
            for number, sample in enumerate(samples)
            if number % 2 == 0
            or number == len(samples) - 1
            or samples[number + 1].runner != sample.runner  # the last one of a runner
        ]
        if len(kept) > MOST_LINES * 3 // 4:  # many runners, and so many last samples
            kept = [*kept[:-1:2], kept[-1]]
        every_s = 2 * self._every_s
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".timeline.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_header(every_s))
                file.writelines(map(line_of, kept))
            appending = os.open(temporary, os.O_RDWR | os.O_APPEND)
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise
        self._close()
        self._descriptor = appending
        self._every_s = every_s
        self._lines = len(kept) + 1

    def _lose(self, error: OSError) -> None:
        self._is_lost = True
        self._close()
        if self._path.parent.is_dir():  # else the whole folder is gone, which the run reports
            self.on_loss(
                f"cannot write {str(self._path)!r} ({error.strerror or error}); the run continues, "
                "and its timeline ends here"
            )


def _sample_of(progress: Progress, runner: int, at: float) -> Sample:
    vitals = progress.vitals or Vitals()
    return Sample(
        at=at,
        runner=runner,
        phase=vitals.phase,
        why=vitals.why,
        handled=max(progress.handled, progress.counts.handled),
        counts=progress.counts,
        total=progress.total,
        rate=progress.rate,
        in_flight=vitals.in_flight,
        batch_size=vitals.batch_size,
        median_s=vitals.latency_median_s,
        p99_s=vitals.latency_p99_s,
        limit_per_s=vitals.limit_per_s,
        limit_why=vitals.limit_why,
        conflicts=vitals.conflicts,
        retries=progress.retries,
        waits=vitals.waits,
    )


def read_timeline(folder: Path) -> tuple[Sample, ...]:
    """The samples of a run, oldest first; empty if there are none. Lines that are damaged or torn
    are left out. Raises StateError when the file cannot be read."""
    path = folder / TIMELINE_NAME
    try:
        with path.open("rb") as file:
            stored = file.read(MOST_BYTES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StateError(
            f"cannot read {str(path)!r} ({error.strerror}); make it readable and try again"
        ) from error
    return tuple(samples_of(stored.decode(errors="replace").splitlines()))


def samples_of(lines: Iterable[str]) -> Iterator[Sample]:
    """The samples in the lines of a timeline, without those that are damaged."""
    for line in lines:
        try:
            stored = json.loads(line)
            if isinstance(stored, dict) and "at" in stored:
                yield _sample(stored)
        except _DAMAGE:
            continue


def line_of(sample: Sample) -> str:
    """A sample as a line of the timeline."""
    stored: dict[str, Any] = {
        **asdict(sample),
        "phase": sample.phase.value,
        "counts": {name: count for name, count in sample.counts.stored().items() if count},
        "waits": {name: round(seconds, 3) for name, seconds in asdict(sample.waits).items()},
    }
    for name, value in stored.items():
        if isinstance(value, float):
            stored[name] = round(value, 4)
    return json.dumps({name: v for name, v in stored.items() if v not in (None, "", {})}) + "\n"


def _sample(stored: Mapping[str, Any]) -> Sample:
    """Raises ValueError, TypeError, KeyError if the line is damaged."""
    counts, waits = dict(stored.get("counts", {})), dict(stored.get("waits", {}))
    return Sample(
        at=_number(stored["at"]),
        runner=int(stored["runner"]),
        phase=Phase(stored.get("phase", Phase.WORKING.value)),
        why=str(stored.get("why", "")),
        handled=int(stored.get("handled", 0)),
        counts=Counts(**{f.name: int(counts.get(f.name, 0)) for f in fields(Counts)}),
        total=None if stored.get("total") is None else int(stored["total"]),
        rate=_number(stored.get("rate", 0.0)),
        in_flight=int(stored.get("in_flight", 0)),
        batch_size=int(stored.get("batch_size", 0)),
        median_s=_optional(stored.get("median_s")),
        p99_s=_optional(stored.get("p99_s")),
        limit_per_s=_optional(stored.get("limit_per_s")),
        limit_why=str(stored.get("limit_why", "")),
        conflicts=int(stored.get("conflicts", 0)),
        retries=int(stored.get("retries", 0)),
        waits=Waits(**{f.name: _number(waits.get(f.name, 0.0)) for f in fields(Waits)}),
    )


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} in a timeline")
    return number


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)


def _header(every_s: float) -> str:
    return json.dumps({"timeline": 1, "every_s": every_s}) + "\n"


def _every_s(lines: list[str]) -> float:
    """How far apart the samples are, from the first line."""
    try:
        every_s = float(json.loads(lines[0])["every_s"])
    except (*_DAMAGE, IndexError):
        return FIRST_EVERY_S
    return every_s if math.isfinite(every_s) and every_s >= FIRST_EVERY_S else FIRST_EVERY_S
