"""The current directory, which an updater may change or delete."""

from __future__ import annotations

import os


def current_directory() -> str:
    """Empty if it has been deleted: then nothing can be found from it in any case."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
