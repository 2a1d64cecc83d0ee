"""Files to rehearse on, and updaters to rehearse."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

from bulkup.local import messages as m
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.exports.writer import ExportWriter
from bulkup.local.file_diff import settle
from bulkup.local.storage import Storage
from bulkup.local.transfer import Source, load
from bulkup.rehearsal.request import OPTIONS, Request, Updater

BUMP = """
    import bulkup

    @bulkup.updater(kind="Item")
    def bump(entity, *, step: int = 1):
        '''Count every Item up.'''
        entity["n"] += step
        return entity
"""
"""Not idempotent."""

LABEL = """
    import bulkup

    @bulkup.updater(kind="Item", idempotent=True, max_failures=10)
    def label(entity):
        if entity["n"] % 7 == 3:
            raise ValueError(f"no label for {entity['n']}")
        entity["label"] = f"no. {entity['n']}"
        return entity
"""
"""Idempotent; one of seven entities fails."""


def make_file(path: Path, lines: Sequence[Mapping[str, Any]], project: str = "local") -> Path:
    """A file that holds these entities: lines of JSON, as `bulkup local load` takes them."""
    text = "\n".join(json.dumps(line) for line in lines).encode()
    with LocalFile(path, Partition(project, "", "")) as file:
        load(file, Source(io.BytesIO(text), "lines", "Item"))
    return path


def items(path: Path, count: int) -> Path:
    """A file of that many Items with the ids and the values 1, 2, 3, ..."""
    return make_file(path, [{"__key__": ["Item", n], "n": n} for n in range(1, count + 1)])


def export_of(folder: Path, lines: Sequence[Mapping[str, Any]], project: str) -> Path:
    """A managed export of these entities."""
    file = make_file(folder.with_name(f"{folder.name}.file"), lines, project)
    with ExportWriter(folder) as writer:
        for body in contents(file):
            writer.write(m.Entity.FromString(body))
    return folder


def write(folder: Path, name: str, source: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(source))
    return str(path)


def request(spec: str, file: Path, **changes: Any) -> Request:
    """Each kill costs a process, so there are but two."""
    return Request(Updater(spec), str(file), **{"options": OPTIONS, "kills": 2, **changes})


def contents(path: Path) -> list[bytes]:
    """All that a file holds, as bytes."""
    settle(path)
    storage = Storage(path)
    try:
        with storage.reading() as snapshot:
            rows = snapshot.db.execute("SELECT body FROM entities ORDER BY part, path").fetchall()
            return [body for (body,) in rows]
    finally:
        storage.close()
