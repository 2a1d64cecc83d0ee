"""An export as a whole: what it promises, and its entities as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from bulkup.core.errors import UsageError
from bulkup.core.visible import visible
from bulkup.local.exports.decode import Decoder
from bulkup.local.exports.errors import ExportError, damaged
from bulkup.local.exports.metadata import (
    OVERALL_SUFFIX,
    VERSION,
    Part,
    read_overall,
    read_part,
    unreadable,
)
from bulkup.local.exports.place import Database
from bulkup.local.exports.record_log import read_records
from bulkup.local.exports.source import LocalFolder, Source

__all__ = ["Database", "Export", "ExportFile", "Exported", "Part", "open_export"]

_AT_REST = "read it again when nobody writes to it"


class Exported(NamedTuple):
    """An entity of an export, and its position."""

    entity: Any
    """An `Entity` message of the API, as the embedded Datastore stores it."""
    file: str
    """`ExportFile.name`."""
    offset: int
    """Offset of the entity's record in its file, in bytes."""
    end: int
    """Where the record ends: how many bytes of the file have been read."""


@dataclass(frozen=True)
class ExportFile:
    """A file of entities. The metadata promises a number of entities for its part, not for the
    file."""

    name: str
    """Relative to the export's folder, such as `all_namespaces/all_kinds/output-0`."""
    part: Part
    size: int = 0
    """In bytes."""
    stamp: str = ""
    """`Source.stamp` of the file when the export was opened."""


class Export:
    """An export whose metadata has been read; see `open_export`."""

    def __init__(
        self,
        source: Source,
        name: str,
        version: str,
        files: tuple[ExportFile, ...],
        fingerprint: str = "",
    ) -> None:
        self.source = source
        self.version = version
        self._fingerprint = fingerprint
        self.name = name
        """The file with the overall metadata."""
        self.files = files
        """In the order in which the metadata lists them."""
        self.parts = tuple(dict.fromkeys(file.part for file in files))

    @property
    def promised_entities(self) -> int:
        """How many entities there are, if the export is whole."""
        return sum(part.entities for part in self.parts)

    @property
    def promised_bytes(self) -> int:
        """The total size of the entity files, according to the metadata."""
        return sum(part.bytes for part in self.parts)

    @property
    def bytes(self) -> int:
        """The total size of the entity files."""
        return sum(file.size for file in self.files)

    @property
    def fingerprint(self) -> str:
        """Differs from that of every other export: a hash of the overall metadata and of all
        `*.export_metadata` files, which include the time of the export. 64 hexadecimal digits."""
        return self._fingerprint

    @cached_property
    def origin(self) -> Database | None:
        """The project and database that were exported, read from the first entity; None if there is
        none. Raises ExportError."""
        for file in self.files:
            for exported in self.read(file):
                partition = exported.entity.key.partition_id
                return Database(partition.project_id, partition.database_id)
        return None

    def entities(self, to: Database | None = None) -> Iterator[Exported]:
        """All entities, file by file, as a stream: memory holds one entity and 1 MiB.

        `to`: the project and database that replace the export's own in every key, including keys
        that are values and keys of entities that are values. Keys of other databases are unchanged.

        Raises ExportError for any damage. If a part does not have as many entities as promised,
        this is raised only after its last entity. So a part is known to be whole only when the next
        part begins or the iterator ends.
        """
        for part, files in groupby(self.files, lambda file: file.part):
            found = 0
            for file in files:
                for exported in self.read(file, to):
                    found += 1
                    yield exported
            self.check_counts(part, found)

    def read(
        self, file: ExportFile, to: Database | None = None, *, skip: int = 0
    ) -> Iterator[Exported]:
        """The entities of one file. Their number is not checked; see `check_counts`.

        `skip`: how many entities at the beginning are not yielded. Their checksums are still
        verified.

        Raises ExportError for damage, and if the file was written since the export was opened;
        OSError if the file cannot be read now.
        """
        try:
            yield from self._read(file, to, skip)
        except (ExportError, OSError) as error:
            self._check_unchanged(file, error)
            raise
        self._check_unchanged(file)

    def _check_unchanged(self, file: ExportFile, cause: Exception | None = None) -> None:
        """Raise ExportError if a file changed while it was read: its data may be from two
        exports."""
        shown = self.source.shown(file.name)
        try:
            same = self.source.stamp(file.name, now=True) == file.stamp
        except FileNotFoundError as error:
            reason = "it was removed while the export was read"
            raise ExportError(reason, shown, advice=_AT_REST) from cause or error
        except OSError:
            if cause is not None:
                return  # `cause` says more
            raise
        if not same:
            reason = "it was written while the export was read"
            raise ExportError(reason, shown, advice=_AT_REST) from cause

    def _read(self, file: ExportFile, to: Database | None, skip: int) -> Iterator[Exported]:
        shown = self.source.shown(file.name)
        decode = Decoder(to).entity
        try:
            stream = self.source.open(file.name)
        except FileNotFoundError as error:
            raise unreadable(error, shown) from error
        with stream:
            for offset, end, data in islice(read_records(stream, shown), skip, None):
                try:
                    entity = decode(data)
                except ValueError as error:
                    reason = f"the record is not an entity ({error})"
                    raise damaged(reason, shown, offset) from error
                yield Exported(entity, file.name, offset, end)

    def check_counts(self, part: Part, found: int) -> None:
        """Raise ExportError unless the files of a part have as many entities as promised. Otherwise
        a file that is cut off between two entities would look whole."""
        if found != part.entities:
            raise ExportError(
                f"it promises {part.entities:,} entities, and its files have {found:,}",
                self.source.shown(self.name),
                advice="copy the export again, or make a new one",
            )


def open_export(place: str | Path | Source) -> Export:
    """Read an export's metadata.

    `place`: its `.overall_export_metadata` file, the folder that holds exactly one (it may be in a
    subfolder), or a Source. Raises UsageError if there is no export, or more than one; ExportError
    if the metadata is damaged or of another version, or a file that it lists is missing.
    """
    source: Source
    if isinstance(place, str | Path):
        path = Path(place)
        if not path.exists():
            raise UsageError(f"there is no export at {visible(str(path))}: no such file or folder")
        source = LocalFolder(path if path.is_dir() else path.parent)
        if path.is_dir():
            name = _overall(source)
        elif path.name.endswith(OVERALL_SUFFIX):
            name = path.name
        else:
            raise UsageError(
                f"{visible(str(path))} is not the {OVERALL_SUFFIX} file of an export; name that "
                "file, or the folder that holds it"
            )
    else:
        source, name = place, _overall(place)
    files: list[ExportFile] = []
    digest = hashlib.sha256()
    for part in read_overall(source, name, digest.update):
        listed = read_part(source, part, digest.update)
        if not listed and part.entities:
            raise damaged("it lists no files", source.shown(part.name), None)
        files += (_export_file(source, part, file) for file in listed)
    return Export(source, name, VERSION, tuple(files), digest.hexdigest())


def _overall(source: Source) -> str:
    """The name of the one file with overall metadata. Raises UsageError if there is not exactly
    one."""
    shown = visible(source.shown(""))
    try:
        found = source.find(OVERALL_SUFFIX)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read ({error.strerror or error})") from error
    if not found:
        raise UsageError(
            f"{shown} is not an export: it holds no {OVERALL_SUFFIX} file; name the folder of an "
            "export that has finished"
        )
    if len(found) > 1:
        some = ", ".join(visible(source.shown(name)) for name in found[:3])
        more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
        raise UsageError(f"{shown} holds {len(found):,} exports; name one of them: {some}{more}")
    return found[0]


def _export_file(source: Source, part: Part, file: str) -> ExportFile:
    try:
        return ExportFile(file, part, source.size(file), source.stamp(file))
    except OSError as error:
        raise unreadable(error, source.shown(file)) from error
