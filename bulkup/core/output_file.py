"""Files that a command is asked to write, such as a plan or a page about it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bulkup.core.errors import StateError, UsageError
from bulkup.core.visible import visible

_BEGINNING = 4096


def check_replaceable(path: Path, is_ours: Callable[[bytes], bool], what: str) -> None:
    """Refuse to overwrite a file that bulkup has not written: it may be the updater itself.

    `is_ours` is called with a file's beginning. `what` names what is written, such as `a plan`.
    Raises UsageError, StateError.
    """
    shown = visible(str(path))
    if path.name == "-":
        raise UsageError("- is not standard output here; name a file")
    if path.is_dir():
        raise UsageError(f"{shown} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {visible(str(path.parent))}; create it first")
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{shown} is not a regular file; name another file")
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error
    if beginning and not is_ours(beginning):
        raise UsageError(f"{shown} is there and is not {what}; delete it, or name another file")


def replace_file(path: Path, text: str) -> None:
    """Write a file of mode 0600, either completely or not at all. Raises StateError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> StateError:
    reason = error.strerror or str(error)
    return StateError(f"cannot write {visible(str(path))} ({reason}); name another file")
