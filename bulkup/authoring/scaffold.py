"""A new updater and its test, side by side: what `bulkup new` writes.

    files = scaffold(NewUpdater("add_full_name", "Person"), Path("updaters"))
    write_new(files)

The source is in `scaffold_source.py`.
"""

from __future__ import annotations

import keyword
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

from bulkup.authoring.scaffold_source import NewUpdater, source_of_test, source_of_updater
from bulkup.authoring.source_files import printable
from bulkup.core.errors import UsageError
from bulkup.core.limits import MAX_NAME_BYTES, is_reserved

MAX_NAME = 100
"""In characters. For ASCII, this leaves room for a number and `test_` in the name of a file."""


def scaffold(new: NewUpdater, folder: Path, number: str = "") -> dict[Path, str]:
    """The files of a new updater, by path; nothing is written.

    `number`: of a migration. Raises UsageError for an invalid name or kind.
    """
    _check_name(new.name, is_numbered=bool(number))
    _check_kind(new.kind)
    stem = f"{number}_{new.name}" if number else new.name
    return {
        folder / f"{stem}.py": source_of_updater(new),
        folder / f"test_{stem}.py": source_of_test(new, f"{stem}.py"),
    }


def _check_name(name: str, *, is_numbered: bool) -> None:
    """Raises UsageError."""
    if keyword.iskeyword(name):
        raise UsageError(
            f"{name} is a keyword of Python, so no module can have that name; choose another, such "
            f"as {name.lower()}_entities"
        )
    if not name.isidentifier() or not _is_encodable(name):
        raise UsageError(
            f"{printable(name)} is not a valid name for a Python module; use letters, digits and "
            "'_', as in add_full_name"
        )
    if len(name) > MAX_NAME:
        raise UsageError(
            f"the name has {len(name)} characters, but a file's name has at most {MAX_NAME}; "
            "choose a shorter one"
        )
    if name.startswith("test_") or name.endswith("_test") or name == "conftest":
        raise UsageError(
            f"{name} is a name for a test, which pytest would run; leave `test` out of it: the "
            "updater's test is written beside it"
        )
    # A test imports modules from its own folder first, even those that bulkup needs.
    others = {"bulkup", "pytest_bulkup"}
    if not is_numbered:
        others |= sys.stdlib_module_names | packages_distributions().keys()
    if name in others:
        raise UsageError(
            f"{name}.py would hide the module {name} from the updater's test; choose another name"
        )


def _check_kind(kind: str) -> None:
    """Raises UsageError for one that Datastore could not store."""
    try:
        is_long = len(kind.encode()) > MAX_NAME_BYTES
    except UnicodeEncodeError:
        raise UsageError(f"the kind {printable(kind)} is not valid UTF-8; name another") from None
    if not kind or is_long or is_reserved(kind):
        raise UsageError(
            f"{printable(kind[:50])} is not a valid name for a kind, which has 1 to "
            f"{MAX_NAME_BYTES:,} bytes and is not like __this__; name another"
        )


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # in a locale that has no such letter
        return False
    return True


def check_free(files: Iterable[Path]) -> None:
    """Raises UsageError if one of the files exists."""
    for path in files:
        if os.path.lexists(path):
            raise _is_there(path)


def _is_there(path: Path) -> UsageError:
    return UsageError(
        f"{printable(str(path))} is there already, so nothing was written; choose another name, or "
        "move that file away"
    )


def write_new(files: Mapping[Path, str]) -> None:
    """Write new files, all of them or none, and never replace one. Creates their folder.

    Raises UsageError.
    """
    check_free(files)
    written: list[Path] = []
    for path, source in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # "x" refuses a file that was created meanwhile, even a dangling link.
            with path.open("x", encoding="utf-8", newline="\n") as file:
                written.append(path)
                file.write(source)
        except OSError as error:
            for one in written:
                one.unlink()
            if isinstance(error, FileExistsError) and os.path.lexists(path):
                raise _is_there(path) from error
            raise UsageError(
                f"{printable(str(path))} cannot be written ({error.strerror}), so nothing was "
                "written; name another folder with --in"
            ) from error
