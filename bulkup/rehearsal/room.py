"""When the disk with the copies is full, it is not the updater's fault, so no pass is judged."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.core.visible import visible

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID = "disk is full"
"""In the error messages of SQLite and of the embedded Datastore."""


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Raises StateError, with what to do, if the folder of the copies has no room left."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _no_room(folder) from error
    except (sqlite3.Error, StateError) as error:
        if _SAID not in str(error):
            raise
        raise _no_room(folder) from error


def check_room(folder: Path, *reasons: str) -> None:
    """Raises the same StateError if a full disk is a reason why a pass did not finish."""
    if any(_SAID in reason for reason in reasons):
        raise _no_room(folder)


def _no_room(folder: Path) -> StateError:
    where = folder.parent
    return StateError(
        f"{visible(str(where))} has no room left for the copies of the rehearsal "
        f"({shutil.disk_usage(where).free:,} bytes are free), which are removed; name a folder on "
        "a larger disk with TMPDIR"
    )
