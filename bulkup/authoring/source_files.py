"""Read a source file that a user named; if that fails, suggest the files that do exist."""

from __future__ import annotations

import difflib
import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from bulkup.authoring.built_ins import BUILT_INS
from bulkup.authoring.updater_names import specs_of
from bulkup.core.errors import NotFoundError, UsageError
from bulkup.core.visible import visible

_LISTED = 10
"""How many names an error message lists."""


def read_source(typed: str) -> bytes:
    """Read a Python file. Raises NotFoundError or UsageError, which suggest files that exist."""
    shown = printable(typed)
    try:
        mode = os.stat(typed).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _no_file(typed) from None
    except (OSError, ValueError) as exc:
        raise _unreadable(shown, exc) from exc
    if stat.S_ISDIR(mode):
        paths = [os.path.join(typed, name) for name in _python_files(typed)]
        # List the files that have updaters; if none seems to have one, list all.
        specs = [spec for path in paths for spec in specs_of(Path(path), path)] or paths
        files = listed(map(shlex.quote, specs))
        raise UsageError(f"{shown} is a folder; name an updater in it: {files}")
    if not typed.endswith(".py"):
        raise UsageError(f"{shown} is not a Python file; name one that ends in .py")
    if not stat.S_ISREG(mode):
        # Opening a pipe would block forever.
        raise UsageError(f"{shown} is not a regular file; save the updater in one")
    try:
        with open(typed, "rb") as file:
            return file.read()
    except OSError as exc:
        raise _unreadable(shown, exc) from exc


def _unreadable(shown: str, exc: Exception) -> UsageError:
    reason = getattr(exc, "strerror", None) or str(exc)
    return UsageError(f"cannot read {shown} ({reason}); name a Python file that can be read")


def _no_file(typed: str) -> NotFoundError:
    folder, wanted = os.path.split(typed)
    if folder and not os.path.isdir(folder):
        return NotFoundError(
            f"there is no folder {printable(folder)}; check the path of {printable(wanted)} (the "
            f"current directory is {printable(os.getcwd())})"
        )
    if os.path.islink(typed):
        return NotFoundError(
            f"{printable(typed)} is a link to {printable(os.readlink(typed))}, which does not "
            "exist; name another file"
        )
    there = [os.path.join(folder, name) for name in _python_files(folder or os.curdir)]
    meant = suggest(typed, there if folder else [*BUILT_INS, *there])
    return NotFoundError(
        f"there is no file {printable(typed)}"
        + (meant or f"; check the path (the current directory is {printable(os.getcwd())})")
    )


def _python_files(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    except OSError:
        return []  # used for suggestions only


def listed(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return (", ".join(shown[:_LISTED]) or "(none)") + more


def suggest(wanted: str, there: Iterable[str]) -> str:
    """`; did you mean a or b?`, or an empty string if nothing is similar."""
    close = difflib.get_close_matches(wanted, list(there), n=3)
    return f"; did you mean {' or '.join(printable(name) for name in close)}?" if close else ""


def printable(text: str) -> str:
    """A name for a message; a Python literal if it has characters that a reader would not see."""
    return visible(text)
