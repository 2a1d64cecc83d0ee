"""Finds the built-in updaters, and those in a folder's files. Loading a file runs its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bulkup.authoring.built_ins import BUILT_INS
from bulkup.authoring.definitions import runnable_in
from bulkup.authoring.importing import import_path
from bulkup.authoring.loader import UpdaterSource, describe, load
from bulkup.core.errors import BulkupError


@dataclass(frozen=True)
class FoundUpdater:
    spec: str
    """What to type to run it; for a file that cannot be loaded, its path."""
    source: UpdaterSource | None
    """None if it cannot be loaded."""
    error: str = ""
    is_built_in: bool = False


def built_in_updaters() -> Iterator[FoundUpdater]:
    for name in BUILT_INS:
        yield FoundUpdater(name, load(name), is_built_in=True)


def updaters_in(folder: Path) -> Iterator[FoundUpdater]:
    """The updaters that the Python files in a folder define, file by file. A file without updaters,
    such as a module of helpers, is skipped; a file that cannot be loaded is not."""
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith(("_", ".")):
            continue
        try:
            found = runnable_in(import_path(str(path)).module)
        except BulkupError as error:
            yield FoundUpdater(str(path), None, error.message)
            continue
        for name, definition in found.items():
            spec = str(path) if len(found) == 1 else f"{path}:{name}"
            try:
                yield FoundUpdater(spec, describe(definition))
            except BulkupError as error:
                yield FoundUpdater(f"{path}:{name}", None, error.message)
