"""An export that is made up in memory, and what is in a file of the embedded Datastore."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bulkup.local import messages as m
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.exports.errors import damaged
from bulkup.local.exports.folder import Export, Exported, ExportFile
from bulkup.local.exports.metadata import Part
from bulkup.local.exports.place import Database
from bulkup.local.exports.source import LocalFolder
from bulkup.local.importing.load import load_export

HERE = Database("local")
PLACE = Partition("local", "", "")


def entity(*path: str | int, namespace: str = "", **properties: Any) -> Any:
    """An Entity message; a value that is a Value message stays one."""
    made = m.Entity()
    made.key.partition_id.project_id = HERE.project
    made.key.partition_id.namespace_id = namespace
    for kind, ident in zip(path[::2], path[1::2], strict=True):
        made.key.path.add(kind=kind, **{"id" if isinstance(ident, int) else "name": ident})
    for name, given in properties.items():
        value = made.properties[name]
        if isinstance(given, str):
            value.string_value = given
        elif isinstance(given, int):
            value.integer_value = given
        else:
            value.CopyFrom(given)
    return made


class MadeExport(Export):
    """Files of entities; the first member of each part is what its metadata says."""

    def __init__(self, *parts: tuple[Part, Sequence[Sequence[Any]]], name: str = "made") -> None:
        self._content: dict[str, Sequence[Any]] = {}
        files = []
        for part, contents in parts:
            for content in contents:
                file = ExportFile(f"output-{len(files)}", part, 100 * len(content))
                self._content[file.name] = content
                files.append(file)
        super().__init__(LocalFolder(Path("nowhere")), name, "3", tuple(files))
        self.read_files: list[tuple[str, int]] = []
        """Each file that was read, and how many of its entities were skipped."""
        self.before: Callable[[Any], None] = lambda _: None
        """Called with each entity before it is yielded."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def read(
        self, file: ExportFile, to: Database | None = None, *, skip: int = 0
    ) -> Iterator[Exported]:
        self.read_files.append((file.name, skip))
        for number, one in enumerate(self._content[file.name]):
            if number >= skip:
                self.before(one)
                yield Exported(one, file.name, number * 100, number * 100 + 100)

    def check_counts(self, part: Part, entities: int) -> None:
        if entities != part.entities:
            raise damaged(f"{entities} of {part.entities} entities", part.name, None)


def part(
    entities: int,
    *,
    name: str = "all",
    kinds: tuple[str, ...] = (),
    namespaces: tuple[str, ...] | None = None,
) -> Part:
    return Part(name, kinds, namespaces, entities, entities * 100)


def made(*files: Sequence[Any], name: str = "made") -> MadeExport:
    """An export of one part with these files."""
    return MadeExport((part(sum(map(len, files))), files), name=name)


def tables(file: Path) -> dict[str, list[Any]]:
    """Everything that a file holds, except when it was loaded."""
    with closing(sqlite3.connect(file)) as db:
        (version,) = db.execute("SELECT value FROM meta WHERE name = 'last_version'").fetchone()
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        found = {}
        for (name,) in names:
            if name != "import":
                rows = db.execute(f"SELECT * FROM {name}").fetchall()
                found[name] = sorted(
                    repr(tuple("then" if value == version else value for value in row))
                    for row in rows
                )
        return found


def people(count: int, first: int = 1, **properties: Any) -> list[Any]:
    return [
        entity("Person", first + number, n=number % 3, name=f"p{number}", **properties)
        for number in range(count)
    ]


def stored(path: Path, namespace: str = "") -> list[bytes]:
    with LocalFile(path, Partition("local", "", namespace)) as file:
        return [one.SerializeToString(deterministic=True) for one in file.entities("")]


def killed(path: Path, export: MadeExport, at: int, **options: Any) -> None:
    """Load in a process that is killed before it has read the entity number `at`."""
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        seen = 0

        def die(_: Any) -> None:
            nonlocal seen
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        export.before = die
        try:
            load_export(path, export, **options)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (at < 20)
