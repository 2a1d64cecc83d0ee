"""Sets environment variables temporarily, in a process that may belong to another program."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_lock = threading.Lock()
_settings: list[dict[str, str]] = []
"""The settings of all open blocks, in this thread and others."""
_before: dict[str, str | None] = {}
"""The values of the variables before the first of these blocks."""


@contextmanager
def settled(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within this block. Blocks may overlap, in several threads."""
    with _lock:
        mine = {
            name: value
            for name, value in variables.items()
            if name in _before or os.environ.get(name) != value
        }
        _settings.append(mine)
        for name, value in mine.items():
            _before.setdefault(name, os.environ.get(name))
            os.environ[name] = value
    try:
        yield
    finally:
        with _lock:
            _settings[:] = [other for other in _settings if other is not mine]
            for name, value in mine.items():
                _unset(name, value)


def _unset(name: str, value: str) -> None:
    others = [setting[name] for setting in _settings if name in setting]
    wanted = others[-1] if others else _before.pop(name)
    if os.environ.get(name) != value:
        return  # somebody else has changed it meanwhile
    if wanted is None:
        del os.environ[name]
    else:
        os.environ[name] = wanted
