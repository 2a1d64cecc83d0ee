"""Into a file of the embedded Datastore and out of it, a line of JSON an entity.

Lines are loaded in their order, batch by batch: what was loaded when something ends the work is
exactly the lines before a line that is named. Memory holds one batch.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from bulkup.core.errors import BulkupError, Exit, StateError
from bulkup.local.access import LocalFile, uninterrupted
from bulkup.local.entity_json import LineError, LossError, from_line, to_line
from bulkup.local.limits import key_text
from bulkup.local.status import RpcError

BATCH_ENTITIES = 500
BATCH_BYTES = 4 << 20
"""Of lines; as messages they are smaller, and a commit may have 10 MiB."""
LINE_BYTES = 16 << 20
"""The longest line: an entity has at most 1 MiB, of which escapes can make six."""
_BOM = b"\xef\xbb\xbf"

STDIN = "standard input"
"""The name of a source that cannot be read again."""

Watch = Callable[[int, int], None]
"""Called now and then with the entities and the bytes done."""


class LoadError(BulkupError):
    """A line that cannot be loaded; or, with that exit code, an interruption."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Source:
    """Lines to load, and how people call them."""

    stream: IO[bytes]
    name: str
    kind: str = ""
    id_field: str = ""


class Loading:
    """Loads a source into a file; see `load`."""

    def __init__(self, file: LocalFile, source: Source, watch: Watch) -> None:
        self.file = file
        self.source = source
        self.watch = watch
        self.loaded = 0
        """Entities that are in the file."""
        self.lines = 0
        """Lines that are done with: loaded, or empty."""
        self.bytes = 0
        self._batch: list[tuple[int, Any]] = []
        self._batch_bytes = 0

    def run(self) -> int:
        number = 0
        while line := self.source.stream.readline(LINE_BYTES + 1):
            number += 1
            try:
                entity = self._entity(line, first=number == 1)
            except LineError as error:
                self._flush(number - 1)
                raise self._refused(number, str(error)) from error
            if entity is not None:
                self._batch.append((number, entity))
            self.bytes += len(line)
            self._batch_bytes += len(line)
            if len(self._batch) >= BATCH_ENTITIES or self._batch_bytes >= BATCH_BYTES:
                self._flush(number)
        self._flush(number)
        return self.loaded

    def _entity(self, line: bytes, *, first: bool) -> Any | None:
        if len(line) > LINE_BYTES:
            raise LineError(
                f"it has more than {LINE_BYTES >> 20} MiB, and an entity at most 1; "
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
        """Write what waits; then all lines up to `through` are done."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        try:
            self._put(batch, through)
        except RpcError:
            # Which of them it is the file does not say.
            for number, entity in batch:
                try:
                    self._put([(number, entity)], number)
                except RpcError as error:
                    raise self._refused(number, f"Datastore refuses it: {error.message}") from error
            self.lines = through
        self.watch(self.loaded, self.bytes)

    def _put(self, batch: list[tuple[int, Any]], through: int) -> None:
        # The count must be what the file has, or the advice where to go on would be wrong.
        with uninterrupted():
            if batch:
                self.file.put([entity for _, entity in batch])
            self.loaded += len(batch)
            self.lines = through

    def _refused(self, number: int, reason: str) -> LoadError:
        return LoadError(
            f"line {number} of {self.source.name}: {reason.rstrip('.')}. {self.so_far()} "
            f"Mend the line and {self._go_on(number)}."
        )

    def ended(self, why: str) -> str:
        """Why it ended early, and what that means for the next attempt."""
        go_on = self._go_on(self.lines + 1)
        return f"{why}. {self.so_far()} To go on, {go_on}."

    def so_far(self) -> str:
        if not self.loaded:
            return "Nothing was loaded."
        if self.loaded == 1:
            return "The entity before it is loaded and stays."
        return f"The {self.loaded:,} entities before it are loaded and stay."

    def _go_on(self, number: int) -> str:
        if not self.loaded:
            return "load again"
        if self.source.name == STDIN:
            return f"load from line {number} on"
        return f"load from there on (tail -n +{number} {shlex.quote(self.source.name)})"


def load(file: LocalFile, source: Source, watch: Watch = lambda *_: None) -> int:
    """Put the entities of all lines into a file; gives their number.

    An entity with the key of an earlier one, in the file or in the source, takes its place.
    Raises LoadError for the first line that is no entity, or that Datastore would refuse: lines
    before it are in the file, none after. Also, with exit code SIGINT, on KeyboardInterrupt.
    """
    loading = Loading(file, source, watch)
    try:
        return loading.run()
    except KeyboardInterrupt:
        why = f"interrupted at line {loading.lines + 1}"
        raise LoadError(loading.ended(why), Exit.SIGINT) from None
    except StateError as error:
        raise StateError(loading.ended(error.message)) from error
    except OSError as error:
        why = f"{source.name} cannot be read ({error.strerror or error})"
        raise StateError(loading.ended(why)) from error


def dump(
    file: LocalFile,
    kind: str = "",
    *,
    lossless: bool = False,
    limit: int | None = None,
    leave_out: Collection[str] = (),
) -> Iterator[tuple[str, bool]]:
    """The entities of a kind (empty: of all kinds but those to leave out) in the order of their
    keys: a line without its end, and whether that is in the lossless form.

    Raises StateError for an entity that JSON cannot hold.
    """
    wanted = (e for e in file.entities(kind) if kind or e.key.path[-1].kind not in leave_out)
    for entity in islice(wanted, limit):
        try:
            yield to_line(entity, lossless=lossless)
        except LossError as error:
            raise StateError(
                f"the entity {key_text(entity.key)} cannot be written as JSON: {error}"
            ) from error
