"""Small JSON files in a run's folder, which are replaced as a whole."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 1024
"""Nothing is read beyond this. A file has a few hundred bytes."""


def read_json(path: Path) -> Any:
    """Raises OSError, ValueError, RecursionError."""
    # A link or a pipe here must not lead anywhere, nor block the run.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return json.loads(file.read(MOST_BYTES))


def replace_json(path: Path, values: object) -> None:
    """Private to its owner, whatever lies there. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
