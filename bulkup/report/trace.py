"""A trace of runs, in the trace event format that Perfetto and Chrome show.

The file is a JSON array with one event per line. Each is written as it happens, so memory does not
grow. The `]` at its end comes when the command ends. Without it (the process was killed) the file
is not valid JSON, but the format allows for that: the viewers show what is there.

Each run is shown as a process, with a track for what its thread does and several for each shard:
one for its handlers, one for its pages, and as many for commits as are in flight at once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from bulkup.core.closing import Closing
from bulkup.core.events import (
    Event,
    Held,
    Progress,
    Released,
    Retrying,
    RunEnded,
    RunStarted,
    Steered,
    Warned,
)
from bulkup.core.output_file import cannot_write, check_replaceable
from bulkup.core.spans import Span, SpanKind
from bulkup.core.user_traceback import encodable
from bulkup.report.text import clean

MAX_TEXT_CHARS = 500
_THREAD = 1
"""The track of a run's thread; those of shards follow."""
_HEAD = b'[\n{"name":"bulkup trace"'
_TITLES = {SpanKind.HANDLE: "handlers", SpanKind.PAGE: "pages", SpanKind.COMMIT: "commits"}


class TraceFile(Closing):
    """An observer of spans and a listener of events.

    `on_loss` is called once, with a sentence, when the file can no longer be written; a full disk
    is no reason to end a run.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_loss: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises UsageError for a file that is not a trace, StateError for one that cannot be
        written."""
        check_replaceable(path, lambda beginning: beginning.startswith(_HEAD), "a trace")
        self._path = path
        self.on_loss = on_loss
        self._monotonic = monotonic
        self._zero = monotonic()
        self._run = 0
        """Number of the current run; 0 before the first."""
        self._tracks: dict[tuple[int, str, int], int] = {}
        """The tracks of the current run, by shard, title and lane."""
        self._free_from: dict[tuple[int, str], list[float]] = {}
        """When the last span of each lane ends."""
        self._file: IO[bytes] | None
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=64 * 1024)
            os.fchmod(self._file.fileno(), 0o600)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._put(_HEAD + b',"ph":"M","ts":0,"pid":0,"tid":0,"args":{}}')

    def close(self) -> None:
        """Complete the file. May be called twice."""
        self._put(b"\n]\n")
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._lose(error)
            self._file = None

    # --- what is observed ---

    def span(self, span: Span) -> None:
        if not self._run:
            self._begin("")
        args: dict[str, Any] = {"entities": span.entities} if span.entities else {}
        if span.attempt > 1:
            args["attempt"] = span.attempt
        if span.error:
            args["error"] = span.error
        self._event(
            {
                "name": f"{span.name} {span.error}".rstrip(),
                "cat": span.kind.value,
                "ph": "X",
                "ts": self._micros(span.began),
                "dur": max(0, self._micros(span.ended) - self._micros(span.began)),
                "tid": self._track(span),
                "args": args,
            }
        )

    def event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(f"{event.updater} {event.run_id}")
        elif isinstance(event, Progress):
            self._counters(event)
        elif isinstance(event, Retrying):
            self._instant(f"retry {event.error}", "retry", attempt=event.attempt)
        elif isinstance(event, Warned):
            self._instant("warning", "warning", message=_short(event.message))
        elif isinstance(event, Steered):
            self._instant(event.verb.value, "steered", message=_short(event.message))
        elif isinstance(event, Held):
            self._instant("held", "steered", why=_short(event.why))
        elif isinstance(event, Released):
            self._instant("released", "steered", held_s=event.held_s)
        elif isinstance(event, RunEnded):
            self._instant(event.report.state.value, "end", reason=_short(event.report.reason))
            self._flush()

    # --- events of the format ---

    def _begin(self, name: str) -> None:
        self._run += 1
        self._tracks.clear()
        self._free_from.clear()
        self._meta("process_name", 0, name=_short(name or "bulkup"))
        self._name_track(_THREAD, "thread of the run")

    def _counters(self, event: Progress) -> None:
        values: dict[str, float] = {"entities per second": round(event.rate, 1)}
        if event.vitals is not None:
            values["commits in flight"] = event.vitals.in_flight
        for name, value in values.items():
            head = {"name": name, "ph": "C", "ts": self._micros(self._monotonic())}
            self._event({**head, "tid": 0, "args": {"value": value}})
        self._flush()  # about once a second: a kill loses no more than that

    def _instant(self, name: str, category: str, **args: Any) -> None:
        head = {"name": _short(name), "cat": category, "ph": "i", "s": "p"}
        at = self._micros(self._monotonic())
        self._event({**head, "ts": at, "tid": _THREAD, "args": args})

    def _track(self, span: Span) -> int:
        if span.kind is SpanKind.DOING:
            return _THREAD
        title = _TITLES[span.kind]
        lanes = self._free_from.setdefault((span.shard, title), [])
        # Spans come in the order of their ends. Two on one track must not overlap.
        lane = next((n for n, free in enumerate(lanes) if free <= span.began), len(lanes))
        lanes[lane : lane + 1] = [span.ended]
        place = span.shard, title, lane
        if place not in self._tracks:
            self._tracks[place] = _THREAD + 1 + len(self._tracks)
            whose = f"shard {span.shard} " if span.shard else "worker processes "
            number = f" {lane + 1}" if lane else ""
            self._name_track(self._tracks[place], f"{whose}{title}{number}")
        return self._tracks[place]

    def _name_track(self, track: int, name: str) -> None:
        self._meta("thread_name", track, name=name)
        self._meta("thread_sort_index", track, sort_index=track)

    def _meta(self, kind: str, track: int, **args: Any) -> None:
        self._event({"name": kind, "ph": "M", "ts": 0, "tid": track, "args": args})

    def _event(self, fields: Mapping[str, Any]) -> None:
        if not self._run:
            return  # before the first run there is no process to show it in
        line = json.dumps({**fields, "pid": self._run}, separators=(",", ":"))
        self._put(b",\n" + line.encode())

    def _micros(self, moment: float) -> int:
        return max(0, round((moment - self._zero) * 1e6))

    # --- the file ---

    def _put(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(data)
        except OSError as error:
            self._lose(error)

    def _flush(self) -> None:
        if self._file is None:
            return
        try:
            self._file.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # `close` first writes what is buffered, and closes in any case
                file.close()
        self.on_loss(
            f"cannot write {clean(str(self._path))} ({error.strerror or error}); the run "
            "continues, and its trace ends here"
        )


def _short(text: str) -> str:
    return encodable(str(text)[:MAX_TEXT_CHARS])
