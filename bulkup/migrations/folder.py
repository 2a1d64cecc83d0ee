"""A folder of migrations: its files, their order and their checksums.

Nothing here executes the users' code, so that `bulkup status` does not.
"""

from __future__ import annotations

import ast
import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkup.authoring.source_files import printable, read_source, suggest
from bulkup.core.errors import NotFoundError, UpdaterError, UsageError
from bulkup.migrations.code import code_checksum

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

MAX_NAME_LENGTH = 200
"""A name is part of keys (1500 bytes in Datastore) and folder names (255 bytes on most systems)."""


@dataclass(frozen=True)
class MigrationFile:
    name: str
    """The file's name without `.py`. It identifies the migration permanently."""
    path: Path
    code: str
    """See `code_checksum`."""
    after: tuple[str, ...] = ()
    """Names of migrations to apply before this one, whatever the order of the names."""


def read_folder(folder: Path) -> list[MigrationFile]:
    """The migrations of a folder in the order they are applied.

    Files whose names start with `_` or `.` are not migrations. Raises NotFoundError; UsageError
    for invalid names, unknown predecessors and circular dependencies; UpdaterError for a file that
    is not valid Python.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder {printable(str(folder))}; name the folder of the migrations: "
            "`bulkup migrate DIR`, `bulkup mark --in DIR`"
        )
    paths = sorted(p for p in folder.glob("*.py") if p.name[0] not in "_.")
    return in_order([_read(path) for path in paths])


def _read(path: Path) -> MigrationFile:
    shown = printable(str(path))
    name = path.name[: -len(".py")]
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise UsageError(
            f"{shown} is not a valid name for a migration; use letters, digits, '_', '-' and '.', "
            f"at most {MAX_NAME_LENGTH} characters (start the name of a helper file with '_')"
        )
    source = read_source(str(path))
    try:
        tree = ast.parse(source)
        return MigrationFile(name, path.absolute(), code_checksum(source), _after(tree, shown))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UpdaterError(
            f"{shown} is not valid Python{line}; fix it and try again", details=str(error)
        ) from error


def _after(tree: ast.Module, shown: str) -> tuple[str, ...]:
    """The value of `after = ["0001_...", ...]` at the top level of the file."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            targets: Sequence[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if not any(isinstance(t, ast.Name) and t.id == "after" for t in targets):
            continue
        try:
            value = ast.literal_eval(statement.value) if statement.value else None
        except ValueError:
            value = None
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise UsageError(
                f"`after` in {shown} (line {statement.lineno}) must be a literal list of names, "
                'like after = ["0001_x"]; it is read without running the file'
            )
        return tuple(_stem(v) for v in value)
    return ()


def _stem(name: str) -> str:
    return name[: -len(".py")] if name.endswith(".py") else name


def in_order(migrations: Iterable[MigrationFile]) -> list[MigrationFile]:
    """Sort by name, but each migration after its `after`. Raises UsageError."""
    by_name = {m.name: m for m in migrations}
    waiting = {m.name: set(m.after) for m in by_name.values()}
    for name, needed in waiting.items():
        for missing in sorted(needed - set(by_name)):
            raise UsageError(
                f"{name} names {printable(missing)} in `after`, but there is no such migration"
                + suggest(missing, by_name)
            )
    ready = [name for name, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    ordered: list[MigrationFile] = []
    while ready:
        name = heapq.heappop(ready)
        ordered.append(by_name[name])
        del waiting[name]
        for other, needed in waiting.items():
            if name in needed:
                needed.remove(name)
                if not needed:
                    heapq.heappush(ready, other)
    if waiting:
        raise UsageError(f"circular `after` dependency: {', '.join(_cycle(waiting))}")
    return ordered


def _cycle(waiting: dict[str, set[str]]) -> list[str]:
    """One cycle: each migration comes after the next, the last one after the first."""
    name = min(waiting)
    seen: list[str] = []
    while name not in seen:
        seen.append(name)
        name = min(waiting[name])
    return seen[seen.index(name) :]


def find_name(names: Iterable[str], given: str) -> str:
    """The name that the user means by a name, a file or an unambiguous prefix.

    Raises NotFoundError, UsageError.
    """
    names = list(names)
    wanted = _stem(Path(given).name) if given.endswith(".py") else given
    if wanted in names:
        return wanted
    matching = [name for name in names if wanted and name.startswith(wanted)]
    if len(matching) > 1:
        raise UsageError(
            f"{printable(given)} matches {len(matching)} migrations, {matching[0]} and "
            f"{matching[1]} among them; type more of the name"
        )
    if not matching:
        raise NotFoundError(
            f"there is no migration {printable(given)}{suggest(wanted, names)}; "
            "`bulkup status` lists the migrations"
        )
    return matching[0]
