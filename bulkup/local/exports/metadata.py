"""The metadata of an export: which files it has, and how many entities they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from google.protobuf.message import DecodeError

from bulkup.core.visible import visible
from bulkup.local.exports import entity_proto
from bulkup.local.exports.errors import ExportError, damaged
from bulkup.local.exports.record_log import read_records
from bulkup.local.exports.source import Source

OVERALL_SUFFIX = ".overall_export_metadata"
PART_SUFFIX = ".export_metadata"
VERSION = "3"

_NO_METADATA = "it is not the metadata of an export"

ONE_KIND, ALL_KINDS = 1, 2
DEFAULT_NAMESPACE, ONE_NAMESPACE, ALL_NAMESPACES = 1, 2, 3
_NAMESPACES: dict[int, tuple[str, ...] | None] = {DEFAULT_NAMESPACE: ("",), ALL_NAMESPACES: None}
MAX_PART_BYTES = 16 << 20
"""A part of 100,000 files has 2 MB of metadata."""


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
    """How many bytes its files are promised to have."""


def read_overall(source: Source, name: str, note: Callable[[bytes], None]) -> tuple[Part, ...]:
    """The parts that `*.overall_export_metadata` lists. Raises ExportError.

    `note`: called with what was read.
    """
    shown = source.shown(name)
    try:
        with source.open(name) as stream:
            records = list(read_records(stream, shown))
    except OSError as error:
        raise unreadable(error, shown) from error
    for record in records:
        note(record.data)
    if not records:
        raise damaged("it is empty", shown, None)
    version = records[0].data.decode("ascii", "backslashreplace")
    if version != VERSION:
        raise ExportError(
            f"it is of version {visible(version[:40])} of the export format, and bulkup reads "
            f"version {VERSION}",
            shown,
            advice="make the export with `gcloud datastore export`, or upgrade bulkup",
        )
    if len(records) != 2:
        raise damaged(f"it has {len(records)} records instead of 2", shown, records[-1].offset)
    folder = PurePosixPath(name).parent
    try:
        overall = entity_proto.Overall.FromString(records[1].data)
        return tuple(_part(pointer, folder, shown) for pointer in overall.pointer)
    except (DecodeError, UnicodeDecodeError) as error:
        raise damaged(_NO_METADATA, shown, records[1].offset) from error


def _part(pointer: Any, folder: PurePosixPath, shown: str) -> Part:
    spec = pointer.spec
    return Part(
        name=_inside(folder, pointer.file, shown),
        kinds=(entity_proto.text(spec.kind),) if spec.kind_type == ONE_KIND else (),
        namespaces=_NAMESPACES.get(spec.namespace_type, (entity_proto.text(spec.namespace),)),
        entities=pointer.entities,
        bytes=pointer.bytes,
    )


def read_part(source: Source, part: Part, note: Callable[[bytes], None]) -> list[str]:
    """The entity files of a part, relative to the export's folder. Raises ExportError."""
    shown = source.shown(part.name)
    try:
        with source.open(part.name) as stream:
            raw = stream.read(MAX_PART_BYTES)
    except OSError as error:
        raise unreadable(error, shown) from error
    note(raw)
    folder = PurePosixPath(part.name).parent
    try:
        message = entity_proto.Part.FromString(raw)
        return [_inside(folder, file, shown) for kind in message.kind for file in kind.file]
    except (DecodeError, UnicodeDecodeError) as error:
        raise damaged(_NO_METADATA, shown, 0) from error


def _inside(folder: PurePosixPath, name: str, shown: str) -> str:
    """The path of a listed file. Raises ExportError for a file outside the export's folder."""
    path = PurePosixPath(entity_proto.text(name))
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise damaged(f"it lists a file outside the export: {visible(name)}", shown, None)
    return (folder / path).as_posix()


def unreadable(error: OSError, shown: str) -> ExportError:
    """The error for a file that the metadata lists but that cannot be read."""
    if isinstance(error, FileNotFoundError):
        reason = "the export's metadata lists this file, but it is missing"
        return ExportError(reason, shown, advice="copy the whole export")
    reason = f"it cannot be read ({error.strerror or error})"
    return ExportError(reason, shown, advice="check the permissions, or copy the export again")
