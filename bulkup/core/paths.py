"""The current directory, which an updater may change or delete."""

from __future__ import annotations

import os


def current_directory() -> str:
    """Its path; empty if it was deleted, because nothing can be found relative to it then."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
