"""A folder of migrations: its files, their order and their checksums.

Nothing here executes user code, so neither does `bulkup status`.
"""

from __future__ import annotations

import ast
import heapq
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bulkup.authoring.built_ins import CLASS_NAMES
from bulkup.authoring.code_checksum import code_checksum
from bulkup.authoring.source_files import printable, read_source, suggest
from bulkup.core.errors import BulkupError, NotFoundError, UpdaterError, UsageError

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
    """Names of migrations to apply before this one, even if they sort after it."""


@dataclass(frozen=True)
class _OtherFile:
    """A file whose name does not begin with a digit: a helper, unless it is known to be a
    migration."""

    path: Path
    source: bytes

    @cached_property
    def migration(self) -> MigrationFile:
        """The file as a migration. Raises UpdaterError, UsageError if it cannot be one."""
        return _parse(self.path, self.source)

    @property
    def code(self) -> str | None:
        """The checksum of its code; None if it cannot be read as a migration."""
        try:
            return self.migration.code
        except BulkupError:
            return None

    @property
    def has_updater(self) -> bool:
        """Whether it seems to define an updater. The file is not executed."""
        try:
            tree = ast.parse(self.source)
        except (SyntaxError, ValueError):
            return False
        return any(_is_updater(statement) for statement in tree.body)


class MigrationFolder:
    """The migrations of a folder, in the order they are applied.

    These are the files whose names begin with digits, the files named in their `after`, and the
    files that a ledger knows (`known`). The last are there because any file used to be a migration,
    and what was applied stays one.
    """

    def __init__(
        self,
        path: Path,
        numbered: Sequence[MigrationFile],
        others: Mapping[str, _OtherFile],
        known: Iterable[str] = (),
    ) -> None:
        """Raises UsageError, UpdaterError."""
        self.path = path
        self._numbered = numbered
        self._others = others
        self._known = tuple(known)
        chosen = {file.name: file for file in numbered}
        waiting = [*self._known, *(name for file in numbered for name in file.after)]
        while waiting:
            name = waiting.pop()
            if name in others and name not in chosen:
                chosen[name] = others[name].migration
                waiting += chosen[name].after
        self.migrations = tuple(in_order(chosen.values()))

    def __iter__(self) -> Iterator[MigrationFile]:
        return iter(self.migrations)

    def with_known(self, names: Iterable[str]) -> MigrationFolder:
        """The same folder, for a ledger that has migrations with these names."""
        return MigrationFolder(self.path, self._numbered, self._others, names)

    @property
    def names(self) -> list[str]:
        """Names of all files that are migrations, or would be if a ledger knew them."""
        return list(dict.fromkeys([*(file.name for file in self.migrations), *self._others]))

    @property
    def next_number(self) -> str:
        """The number of a new migration, with as many digits as the highest number. The numbers of
        `known` migrations are taken even if their files are missing."""
        names = [file.name for file in self._numbered] + [*self._known]
        digits = [digits for digits in map(_leading_digits, names) if digits]
        last = max(digits, key=int, default="0000")
        return str(int(last) + 1).zfill(len(last))

    @property
    def has_numbered(self) -> bool:
        return bool(self._numbered)

    @cached_property
    def updaters_without_number(self) -> tuple[str, ...]:
        """Names of the files that are not migrations, but seem to define updaters."""
        names = {file.name for file in self.migrations}
        return tuple(
            name for name, file in self._others.items() if name not in names and file.has_updater
        )

    def others_with_code(self, code: str) -> list[str]:
        """Names of the files that are not migrations, but have this code."""
        names = {file.name for file in self.migrations}
        return [
            name for name, file in self._others.items() if name not in names and file.code == code
        ]


def read_folder(folder: Path, usage: str = "bulkup migrate DIR") -> MigrationFolder:
    """Read a folder of migrations. Files whose names start with `_` or `.` are never migrations.

    `usage`: how to name a folder to the calling command; the error for a missing folder shows it.

    Raises NotFoundError; UsageError for invalid names, unknown predecessors and circular
    dependencies; UpdaterError for a file that is not valid Python.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder {printable(str(folder))}; name the folder of the migrations: "
            f"`{usage}`"
        )
    numbered: list[MigrationFile] = []
    others: dict[str, _OtherFile] = {}
    for path in sorted(p for p in folder.glob("*.py") if p.name[0] not in "_."):
        if path.name[0] in "0123456789":
            numbered.append(_parse(path, read_source(str(path))))
        elif is_valid_name(path.stem):
            with suppress(BulkupError):  # a folder or a pipe of that name is not a migration
                others[path.stem] = _OtherFile(path, read_source(str(path)))
    return MigrationFolder(folder, numbered, others)


def number_of_new(folder: Path, name: str) -> str:
    """The number of a new migration, in a folder that need not exist yet.

    Raises UsageError for a name that is not valid for a migration or is already taken, and what
    `read_folder` raises.
    """
    number = "0001"
    if os.path.lexists(folder):
        there = read_folder(folder, f"bulkup new {name} --migration --in DIR")
        number = there.next_number
        if same := [one for one in there.names if re.fullmatch(rf"[0-9]+_{re.escape(name)}", one)]:
            raise UsageError(
                f"{printable(str(folder))} has {same[0]}.py already, so nothing was written; "
                "choose another name"
            )
    if not is_valid_name(f"{number}_{name}"):
        raise UsageError(
            f"{printable(name)} is not a valid name for a migration; use letters from a to z, "
            "digits and '_', as in add_full_name"
        )
    return number


def names_in(folder: Path) -> list[str]:
    """Names of the numbered files in a folder, which need not exist or be valid."""
    return [path.stem for path in folder.glob("[0-9]*.py")]


def is_valid_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME_LENGTH


def _parse(path: Path, source: bytes) -> MigrationFile:
    shown = printable(str(path))
    name = path.name[: -len(".py")]
    if not is_valid_name(name):
        raise UsageError(
            f"{shown} is not a valid name for a migration; use letters, digits, '_', '-' and '.', "
            f"at most {MAX_NAME_LENGTH} characters (start the name of a helper file with '_')"
        )
    try:
        tree = ast.parse(source)
        return MigrationFile(name, path.absolute(), code_checksum(source), _after(tree, shown))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UpdaterError(
            f"{shown} is not valid Python{line}; fix it and try again", details=str(error)
        ) from error


_BASES = re.compile(r"\w*(Updater|BulkPut|BulkDelete)")


def _is_updater(statement: ast.stmt) -> bool:
    """Whether this is a class whose base is named like one of ours, or a function decorated with
    `updater`."""
    if isinstance(statement, ast.ClassDef):
        bases = [_last_name(base) for base in statement.bases]
        return any(base in CLASS_NAMES or _BASES.fullmatch(base) for base in bases)
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return any(_last_name(one) == "updater" for one in statement.decorator_list)
    return False


def _last_name(expression: ast.expr) -> str:
    """The last name in an expression: `updater` in `bulkup.updater(kind="Person")`."""
    if isinstance(expression, ast.Call):
        return _last_name(expression.func)
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


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


def _leading_digits(name: str) -> str:
    return name[: len(name) - len(name.lstrip("0123456789"))]


def _stem(name: str) -> str:
    return name[: -len(".py")] if name.endswith(".py") else name


def in_order(migrations: Iterable[MigrationFile]) -> list[MigrationFile]:
    """Sort by number, then by name, but put each migration after those in its `after`. Raises
    UsageError."""
    by_name = {m.name: m for m in migrations}
    waiting = {m.name: set(m.after) for m in by_name.values()}
    for name, needed in waiting.items():
        for missing in sorted(needed - set(by_name)):
            raise UsageError(
                f"{name} names {printable(missing)} in `after`, but there is no such migration"
                + suggest(missing, by_name)
            )
    ready = [_place(name) for name, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    ordered: list[MigrationFile] = []
    while ready:
        *_, name = heapq.heappop(ready)
        ordered.append(by_name[name])
        del waiting[name]
        for other, needed in waiting.items():
            if name in needed:
                needed.remove(name)
                if not needed:
                    heapq.heappush(ready, _place(other))
    if waiting:
        raise UsageError(f"circular `after` dependency: {', '.join(_cycle(waiting))}")
    return ordered


def _place(name: str) -> tuple[bool, int, str]:
    """Sort key: `2_b` before `10_a`, and files with the same number by name."""
    number = re.match(r"[0-9]*", name)
    digits = number[0] if number else ""
    return not digits, int(digits or 0), name


def _cycle(waiting: dict[str, set[str]]) -> list[str]:
    """One cycle: each migration must come after the next one, and the last after the first."""
    name = min(waiting)
    seen: list[str] = []
    while name not in seen:
        seen.append(name)
        name = min(waiting[name])
    return seen[seen.index(name) :]


def find_name(names: Iterable[str], given: str) -> str:
    """The full name of the migration for which the user gave a name, a file or an unambiguous
    prefix.

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
