"""Lets the commands that show a run also read a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

A = TypeVar("A")
"""The arguments of a command, with `run` and `state_dir`."""


@contextmanager
def run_or_bundle(args: A) -> Iterator[A]:
    """The arguments. If `run` is the path of a bundle, then `run` and `state_dir` are replaced by
    those of the run in the bundle. Raises UsageError."""
    given: Any = args
    name: str | None = given.run
    if name is None or not _is_path(name):
        yield args
        return
    from bulkup.runs.bundle import opened_bundle

    with opened_bundle(Path(name)) as folder:
        yield replace(given, run=folder.name, state_dir=folder.parent)


def _is_path(name: str) -> bool:
    return name.endswith(".zip") or os.path.isfile(name)
