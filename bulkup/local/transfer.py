"""Load entities into a file of the embedded Datastore and dump them, one line of JSON each.

Lines are loaded in order, batch by batch. Whatever stops a load, exactly the lines before the one
that the error names are in the file. Memory holds one batch.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from bulkup.core.errors import BulkupError, Exit, StateError
from bulkup.local.access import LocalFile, ReadableFile, uninterrupted
from bulkup.local.entity_json import LineError, LossError, NoKindError, from_line, to_line
from bulkup.local.limits import key_text
from bulkup.local.status import RpcError

BATCH_ENTITIES = 500
BATCH_BYTES = 4 << 20
"""Bytes of lines in a batch. As messages they are smaller, and a commit may have 10 MiB."""
LINE_BYTES = 16 << 20
"""The longest line. An entity has at most 1 MiB, which escapes can make six times as long."""
_BOM = b"\xef\xbb\xbf"

STDIN = "standard input"
"""The name of a source that cannot be read again."""

Watch = Callable[[int, int], None]
"""Called now and then with the number of entities and bytes loaded so far."""


class LoadError(BulkupError):
    """A line that cannot be loaded, or an interruption; `exit_code` tells which."""

    def __init__(
        self,
        message: str,
        exit_code: Exit = Exit.FAILED,
        *,
        needs_kind: bool = False,
        next_steps: Sequence[str] = (),
    ) -> None:
        super().__init__(message, next_steps=next_steps)
        self.exit_code = exit_code
        self.needs_kind = needs_kind
        """Whether a line has no key, and the same load with a kind would work."""


@dataclass(frozen=True)
class Source:
    """Lines to load, and the name that messages use for them."""

    stream: IO[bytes]
    name: str
    kind: str = ""
    id_field: str = ""


@dataclass(frozen=True)
class Loaded:
    """How many entities were loaded, and how many of them have an id that the file assigned."""

    entities: int
    with_new_ids: int


class Loading:
    """Loads a source into a file; see `load`."""

    def __init__(self, file: LocalFile, source: Source, watch: Watch) -> None:
        self.file = file
        self.source = source
        self.watch = watch
        self.loaded = 0
        """Entities that are in the file."""
        self.lines = 0
        """Lines that need no more work: loaded or empty."""
        self.bytes = 0
        self.with_new_ids = 0
        """Entities whose id the file has assigned."""
        self._batch: list[tuple[int, Any]] = []
        self._batch_bytes = 0

    def run(self) -> Loaded:
        number = 0
        while line := self.source.stream.readline(LINE_BYTES + 1):
            number += 1
            try:
                entity = self._entity(line, first=number == 1)
            except LineError as error:
                self._flush(number - 1)
                raise self._line_refused(number, error) from error
            if entity is not None:
                self._batch.append((number, entity))
            self.bytes += len(line)
            self._batch_bytes += len(line)
            if len(self._batch) >= BATCH_ENTITIES or self._batch_bytes >= BATCH_BYTES:
                self._flush(number)
        self._flush(number)
        return Loaded(self.loaded, self.with_new_ids)

    def _entity(self, line: bytes, *, first: bool) -> Any | None:
        if len(line) > LINE_BYTES:
            raise LineError(
                f"it has more than {LINE_BYTES >> 20} MiB, and an entity at most 1 MiB; "
                "each line holds one object"
            )
        text = line.strip()
        if first:
            text = text.removeprefix(_BOM)
        if not text:
            return None
        source = self.source
        return from_line(text, self.file.place, kind=source.kind, id_field=source.id_field)

    def _flush(self, through: int) -> None:
        """Write the batch; after that, all lines up to `through` are done."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        try:
            self._put(batch, through)
        except RpcError:
            # One by one, because the error does not say which entity it is about.
            for number, entity in batch:
                try:
                    self._put([(number, entity)], number)
                except RpcError as error:
                    raise self._refused(number, f"Datastore refused it: {error.message}") from error
            self.lines = through
        self.watch(self.loaded, self.bytes)

    def _put(self, batch: list[tuple[int, Any]], through: int) -> None:
        # Ctrl-C must not come between the write and the count, or the advice would be wrong.
        with uninterrupted():
            if batch:
                entities = [entity for _, entity in batch]
                new = sum(not e.key.path[-1].WhichOneof("id_type") for e in entities)
                self.file.put(entities)
                self.with_new_ids += new
            self.loaded += len(batch)
            self.lines = through

    def _line_refused(self, number: int, error: LineError) -> LoadError:
        if not isinstance(error, NoKindError):
            return self._refused(number, str(error))
        message = f"line {number} of {self.source.name}: {error}. {self.so_far()}"
        return LoadError(message, needs_kind=True)

    def _refused(self, number: int, reason: str) -> LoadError:
        return LoadError(
            f"line {number} of {self.source.name}: {reason.rstrip('.')}. {self.so_far()} "
            f"Fix the line, then {self._resume_advice(number)}."
        )

    def stopped(self, why: str) -> str:
        """Why the load stopped early, and how to resume it."""
        advice = self._resume_advice(self.lines + 1)
        return f"{why}. {self.so_far()} To resume, {advice}."

    def so_far(self) -> str:
        if not self.loaded:
            return "Nothing was loaded."
        if self.loaded == 1:
            return "The entity before it is loaded."
        return f"The {self.loaded:,} entities before it are loaded."

    def _resume_advice(self, number: int) -> str:
        if not self.loaded:
            return "load again"
        if self.source.name == STDIN:
            return f"load from line {number} on"
        return f"load the rest (tail -n +{number} {shlex.quote(self.source.name)})"


def load(file: LocalFile, source: Source, watch: Watch = lambda *_: None) -> int:
    """Like `load_all`, but returns only the number of entities."""
    return load_all(file, source, watch).entities


def load_all(file: LocalFile, source: Source, watch: Watch = lambda *_: None) -> Loaded:
    """Put the entities of all lines into a file.

    An entity replaces an earlier one with the same key, in the file or in the source. Raises
    LoadError for the first line that is not an entity or that Datastore would refuse: the lines
    before it are in the file, no lines after it. Also raises it, with exit code SIGINT, on
    KeyboardInterrupt.
    """
    loading = Loading(file, source, watch)
    try:
        return loading.run()
    except KeyboardInterrupt:
        why = f"interrupted at line {loading.lines + 1}"
        raise LoadError(loading.stopped(why), Exit.SIGINT) from None
    except StateError as error:
        raise StateError(loading.stopped(error.message)) from error
    except OSError as error:
        why = f"{source.name} cannot be read ({error.strerror or error})"
        raise StateError(loading.stopped(why)) from error


def dump(
    file: ReadableFile,
    kind: str = "",
    *,
    lossless: bool = False,
    limit: int | None = None,
    leave_out: Collection[str] = (),
) -> Iterator[tuple[str, bool]]:
    """The entities of a kind in key order, each as a line without its line end, and whether that
    line is in the lossless form. If `kind` is empty, of all kinds except those in `leave_out`.

    Raises StateError for an entity that JSON cannot express.
    """
    wanted = (e for e in file.entities(kind) if kind or e.key.path[-1].kind not in leave_out)
    for entity in islice(wanted, limit):
        try:
            yield to_line(entity, lossless=lossless)
        except LossError as error:
            raise StateError(
                f"the entity {key_text(entity.key)} cannot be written as JSON: {error}"
            ) from error
