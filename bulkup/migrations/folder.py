"""A folder of migrations: which files, in which order, with which checksums.

Nothing of the users' is executed here: who only asks what is pending runs no code of theirs.
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
"""It is part of keys (1500 bytes in Datastore) and of folder names (255 bytes on most systems)."""


@dataclass(frozen=True)
class Migration:
    name: str
    """The file's name without `.py`; what identifies it for ever."""
    path: Path
    code: str
    """See `code_checksum`."""
    after: tuple[str, ...] = ()
    """Names of migrations that must be applied before, whatever the file names say."""


def read_folder(folder: Path) -> list[Migration]:
    """The migrations of a folder in the order they are applied.

    Files whose names begin with `_` or `.` are none. Raises NotFoundError, UsageError for names
    that cannot be, for cycles and for predecessors that are not there, UpdaterError for a file
    that is no Python.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder {printable(str(folder))} with migrations; "
            "name it: bulkup migrate DIR"
        )
    paths = sorted(p for p in folder.glob("*.py") if p.name[0] not in "_.")
    return in_order([_read(path) for path in paths])


def _read(path: Path) -> Migration:
    shown = printable(str(path))
    name = path.name[: -len(".py")]
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise UsageError(
            f"{shown} cannot be the name of a migration: use letters, digits, '_', '-' and '.', "
            f"at most {MAX_NAME_LENGTH} (a helper's name begins with '_')"
        )
    source = read_source(str(path))
    try:
        tree = ast.parse(source)
        return Migration(name, path.absolute(), code_checksum(source), _after(tree, shown))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UpdaterError(
            f"{shown} is not valid Python{line}; correct it and try again", details=str(error)
        ) from error


def _after(tree: ast.Module, shown: str) -> tuple[str, ...]:
    """What `after = ["0001_...", ...]` at the top of the file says."""
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
                f'in {shown} (line {statement.lineno}), after = ["0001_...", ...] takes a plain '
                "list of names: it is read without running the file"
            )
        return tuple(_stem(v) for v in value)
    return ()


def _stem(name: str) -> str:
    return name[: -len(".py")] if name.endswith(".py") else name


def in_order(migrations: Iterable[Migration]) -> list[Migration]:
    """By name, except that each comes behind its `after`. Raises UsageError."""
    by_name = {m.name: m for m in migrations}
    waiting = {m.name: set(m.after) for m in by_name.values()}
    for name, needed in waiting.items():
        for missing in sorted(needed - set(by_name)):
            raise UsageError(
                f"{name} is to come after {printable(missing)}, and there is no such migration"
                + suggest(missing, by_name)
            )
    ready = [name for name, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    ordered: list[Migration] = []
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
        raise UsageError(f"these migrations wait for each other: {_cycle(waiting)}; mend `after`")
    return ordered


def _cycle(waiting: dict[str, set[str]]) -> str:
    """`a after b after a`: of those that wait, some wait in a circle."""
    name = min(waiting)
    seen: list[str] = []
    while name not in seen:
        seen.append(name)
        name = min(waiting[name])
    return " after ".join([*seen[seen.index(name) :], name])


def find(names: Iterable[str], given: str) -> str:
    """The name that `given` means: itself, its file, or an unambiguous beginning of it.

    Raises NotFoundError, UsageError.
    """
    names = list(names)
    wanted = _stem(Path(given).name) if given.endswith(".py") else given
    if wanted in names:
        return wanted
    matching = [name for name in names if wanted and name.startswith(wanted)]
    if len(matching) > 1:
        raise UsageError(
            f"{printable(given)} fits {len(matching)} migrations ({matching[0]}, {matching[1]}, "
            "...); give more of the name"
        )
    if not matching:
        raise NotFoundError(
            f"there is no migration {printable(given)}{suggest(wanted, names)}; "
            "`bulkup status` lists them"
        )
    return matching[0]
