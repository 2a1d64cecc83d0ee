"""Small JSON files in a run's folder, which are replaced as a whole."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 1024
"""No more than this is read. A file has a few hundred bytes."""


def read_json(path: Path) -> Any:
    """The JSON value in a file. Raises OSError, ValueError, RecursionError."""
    # Do not follow a link, and do not block on a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return json.loads(file.read(MOST_BYTES))


def replace_json(path: Path, values: object) -> None:
    """Write a file that only its owner can read, replacing whatever is there. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
