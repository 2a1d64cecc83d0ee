"""Write the entities of a file of the embedded Datastore as a managed export."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkup.core.errors import UsageError
from bulkup.local.access import ReadableFile
from bulkup.local.exports.writer import ExportWriter
from bulkup.local.status import RpcError

_WATCHED_EVERY = 500

Watch = Callable[[int], None]
"""Called from time to time with the number of entities written so far."""


@dataclass(frozen=True)
class Dumped:
    """What an export holds."""

    entities: int
    bytes: int
    left_out: int
    """Entities that were left out because of their kind."""
    empty_kinds: tuple[str, ...] = ()
    """Requested kinds that have no entities."""


def dump_export(
    file: ReadableFile,
    folder: Path,
    *,
    kinds: Sequence[str] = (),
    namespaces: Sequence[str] = (),
    leave_out: Collection[str] = (),
    watch: Watch = lambda _: None,
) -> Dumped:
    """Export a file's project and database into a new folder, which appears when it is complete.

    `kinds`, `namespaces`: export only these; empty means all. `leave_out`: kinds to leave out
    unless `kinds` names them. The export shows the moment when it began; later writes are not in
    it.

    Raises UsageError if the folder exists and is not empty, if its parent does not exist, or if a
    namespace is not valid; StateError if the export cannot be written, or the file can no longer be
    read.
    """
    left_out = 0
    wanted = tuple(dict.fromkeys(kinds))
    with ExportWriter(folder, kinds=wanted) as writer:
        try:
            for entity in file.everything(wanted, tuple(dict.fromkeys(namespaces))):
                if not wanted and entity.key.path[-1].kind in leave_out:
                    left_out += 1
                    continue
                writer.write(entity)
                if writer.entities % _WATCHED_EVERY == 0:
                    watch(writer.entities)
        except RpcError as error:
            raise UsageError(error.message) from error
    return Dumped(writer.entities, writer.bytes, left_out, writer.empty_kinds)
