"""An export as a whole: what it promises, and its entities as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bulkup.local.exports.source import Source


class Database(NamedTuple):
    """A database of a project; the default one has an empty name."""

    project: str
    database: str = ""


class Exported(NamedTuple):
    """An entity of an export, and where it is."""

    entity: Any
    """An `Entity` message of the API, as the embedded Datastore stores it."""
    file: str
    """`ExportFile.name`."""
    offset: int
    """Of the entity's record in its file, in bytes."""
    end: int
    """Where the record ends: the bytes of the file that need not be read again."""


@dataclass(frozen=True)
class Part:
    """What one `*.export_metadata` file describes: the entities of some kinds and namespaces."""

    name: str
    """The metadata file, relative to the export's folder."""
    kinds: tuple[str, ...]
    """Empty: all."""
    namespaces: tuple[str, ...] | None
    """None: all; `("",)`: the default namespace only."""
    entities: int
    """How many are promised."""
    bytes: int
    """How many bytes of entities are promised; files are a little larger."""


@dataclass(frozen=True)
class ExportFile:
    """A file of entities. How many it holds is promised of its part only."""

    name: str
    """Relative to the export's folder, such as `all_namespaces/all_kinds/output-0`."""
    part: Part


class Export:
    """An export whose metadata has been read; see `open_export`."""

    def __init__(self, source: Source, name: str, version: str, files: tuple[ExportFile, ...]):
        self.source = source
        self.name = name
        """The file with the overall metadata."""
        self.version = version
        self.files = files
        """In the order in which their metadata lists them."""
        self.parts = tuple(dict.fromkeys(file.part for file in files))

    @property
    def promised_entities(self) -> int:
        """How many entities there are, if the export is whole."""
        return sum(part.entities for part in self.parts)

    @property
    def promised_bytes(self) -> int:
        """For a progress bar; `Exported.end` of all files adds up to a little more."""
        return sum(part.bytes for part in self.parts)

    @cached_property
    def origin(self) -> Database | None:
        """The project and database that were exported, read from the first entity; None if there is
        none. Raises ExportError."""
        raise NotImplementedError

    def entities(self, to: Database | None = None) -> Iterator[Exported]:
        """All entities, file by file, as a stream: memory holds one entity at a time.

        `to`: the project and database that replaces the export's own in every key, also in keys
        that are values, and in those of entities that are values. Keys of other databases stay.

        Raises ExportError for whatever is damaged, at the latest after the last entity of a part
        when it does not have as many entities as promised. So what was yielded of a part is whole
        only when the next part begins, or the iterator ends.
        """
        raise NotImplementedError

    def read(self, file: ExportFile, to: Database | None = None) -> Iterator[Exported]:
        """The entities of one file, without comparing their number: see `check_counts`."""
        raise NotImplementedError

    def check_counts(self, part: Part, entities: int) -> None:
        """Raise ExportError unless `entities`, found in all files of the part, are as promised."""
        raise NotImplementedError


def open_export(place: str | Path | Source) -> Export:
    """Read an export's metadata.

    `place`: its `.overall_export_metadata` file, the folder that holds exactly one, or a Source.
    Raises UsageError if there is no export, or more than one; ExportError if the metadata is
    damaged or of another version, or a file that it lists is missing.
    """
    raise NotImplementedError
