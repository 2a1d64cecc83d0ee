"""Write an export."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote
from zlib import crc32

from bulkup.core.errors import StateError, UsageError
from bulkup.core.visible import visible
from bulkup.local.exports import entity_proto
from bulkup.local.exports.encode import encode
from bulkup.local.exports.metadata import (
    ALL_KINDS,
    ALL_NAMESPACES,
    ONE_KIND,
    OVERALL_SUFFIX,
    PART_SUFFIX,
    VERSION,
)
from bulkup.local.exports.record_log import RecordWriter
from bulkup.local.limits import key_text

FILE_BYTES = 256 << 20
"""Bytes after which a file gets no more entities."""
_ALL_KINDS = "__all__"
"""What the service writes; LF refuses metadata without it."""


class ExportWriter:
    """Writes an export into a new folder; a context manager.

    The folder appears when the block ends, whole and flushed to disk. If an exception leaves the
    block, there is no folder. A killed process leaves a hidden one, `.NAME.*.partial`. Files have
    mode 0600, folders 0700.

    `kinds`: the kinds that the metadata promises; each gets its own part, as with
    `gcloud datastore export --kinds`. Empty: all kinds, in one part.

    Raises UsageError if the folder exists and is not empty, or if its parent does not exist;
    StateError if it cannot be written.
    """

    def __init__(
        self, folder: Path, *, kinds: Sequence[str] = (), file_bytes: int = FILE_BYTES
    ) -> None:
        self.folder = folder
        self._check_folder()
        self.entities = 0
        """Entities written so far."""
        self._name = folder.absolute().name
        self._start = time.time_ns() // 1000
        with self._explained():
            self._scratch = Path(
                tempfile.mkdtemp(
                    dir=folder.absolute().parent, prefix=f".{self._name}.", suffix=".partial"
                )
            )
        self._parts = {kind: _Part(self._scratch, kind, file_bytes) for kind in kinds or ("",)}
        self._only = self._parts.get("")

    def _check_folder(self) -> None:
        folder = self.folder
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageError(
                f"{visible(str(folder))} is there already; delete it, or name another folder"
            )
        if not folder.absolute().name or not folder.absolute().parent.is_dir():
            raise UsageError(
                f"there is no folder {visible(str(folder.absolute().parent))}; create it first"
            )

    @property
    def bytes(self) -> int:
        """The size of the entity files so far, in bytes."""
        return sum(part.size for part in self._parts.values())

    @property
    def empty_kinds(self) -> tuple[str, ...]:
        """Kinds that the metadata promises and that have no entity so far."""
        return tuple(kind for kind, part in self._parts.items() if kind and not part.entities)

    def write(self, entity: Any) -> None:
        """Add an `Entity` message of the API with a complete key, of any namespace and kind of the
        database that is exported. Raises StateError if it cannot be written."""
        part = self._only or self._parts[entity.key.path[-1].kind]
        try:
            record = encode(entity)
            with self._explained():
                part.write(record)
        except ValueError as error:
            raise StateError(
                f"the entity {key_text(entity.key)} cannot be exported: {error}"
            ) from error
        self.entities += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._explained():
                    self._finish()
        finally:
            for part in self._parts.values():
                part.abandon()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _finish(self) -> None:
        end = time.time_ns() // 1000
        overall = entity_proto.Overall()
        for part in self._parts.values():
            if self._only is None or part.entities:
                part.finish(self._name, self._start, end)
                overall.pointer.append(part.pointer())
        with _new_file(self._scratch / (self._name + OVERALL_SUFFIX)) as file:
            log = RecordWriter(file)
            log.write(VERSION.encode())
            log.write(overall.SerializeToString())
            _flush(file)
        os.rename(self._scratch, self.folder)
        _flush_folder(self.folder.absolute().parent)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"cannot write the export {visible(str(self.folder))} "
                f"({error.strerror or error}); nothing is left of it"
            ) from error


class _Part:
    """The files of one kind, or of all kinds (if `kind` is empty)."""

    def __init__(self, root: Path, kind: str, file_bytes: int) -> None:
        self._root = root
        self._kind = kind
        self._file_bytes = file_bytes
        self._folder = f"kind_{_file_name(kind)}" if kind else "all_kinds"
        self._path = root / "all_namespaces" / self._folder
        self._files: list[str] = []
        self._file: IO[bytes] | None = None
        self._log: RecordWriter | None = None
        self._finished_bytes = 0
        self.entities = 0

    @property
    def size(self) -> int:
        return self._finished_bytes + (self._log.size if self._log else 0)

    def write(self, record: bytes) -> None:
        if self._log is None or self._log.size >= self._file_bytes:
            self._next_file()
        assert self._log is not None
        self._log.write(record)
        self.entities += 1

    def _next_file(self) -> None:
        self._close_file()
        for folder in (self._path.parent, self._path):
            folder.mkdir(mode=0o700, exist_ok=True)
        name = f"output-{len(self._files)}"
        self._file = _new_file(self._path / name)
        self._files.append(name)
        self._log = RecordWriter(self._file)

    def _close_file(self) -> None:
        if self._file is not None and self._log is not None:
            _flush(self._file)
            self._file.close()
            self._finished_bytes += self._log.size
            self._file = self._log = None

    def abandon(self) -> None:
        """Close the file if it is still open, even if entities are missing from it."""
        file, self._file, self._log = self._file, None, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass  # the disk is full; the file is removed in any case

    @property
    def _metadata_name(self) -> str:
        return f"all_namespaces/{self._folder}/all_namespaces_{self._folder}{PART_SUFFIX}"

    def finish(self, name: str, start: int, end: int) -> None:
        if not self._files:
            self._next_file()
        self._close_file()
        message = entity_proto.Part()
        message.info.name, message.info.start, message.info.end = name, start, end
        message.kind.add(kind=self._kind or _ALL_KINDS, file=self._files)
        with _new_file(self._root / self._metadata_name) as file:
            file.write(message.SerializeToString())
            _flush(file)
        _flush_folder(self._path)

    def pointer(self) -> Any:
        pointer = entity_proto.Pointer(
            file=self._metadata_name, entities=self.entities, bytes=self.size
        )
        pointer.spec.kind_type = ONE_KIND if self._kind else ALL_KINDS
        if self._kind:
            pointer.spec.kind = self._kind
        pointer.spec.namespace_type = ALL_NAMESPACES
        return pointer


def _file_name(kind: str) -> str:
    """A kind as part of a file's name. The metadata lists the file's name, so any name works."""
    name = quote(kind, safe=" !#$&'()+,;=@[]^{}~")
    return name if len(name) <= 200 else name[:160] + f"~{crc32(kind.encode()):08x}"


def _new_file(path: Path) -> IO[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb", buffering=1 << 20)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
