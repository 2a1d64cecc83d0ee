"""bulkup applies your Python function to every entity of a Datastore query, exactly once.

This module is the public door: what is named in `__all__` is what users may rely on. What needs
grpc and google.cloud behind it is opened lazily, so that a help page answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkup.errors import BulkupError

# Eager, and not only for speed: `bulkup.updater` is a module and a decorator. Importing the
# module first and binding the decorator over it here makes the name mean the decorator for good.
from bulkup.updater import BulkDelete, BulkPut, Updater, delete, param, updater

if TYPE_CHECKING:
    from bulkup.door import run
    from bulkup.engine.events import Report

__version__ = "0.1.0"

__all__ = [
    "BulkDelete",
    "BulkPut",
    "BulkupError",
    "Report",
    "Updater",
    "delete",
    "param",
    "run",
    "updater",
]

_LAZY = {"Report": "bulkup.engine.events", "run": "bulkup.door"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bulkup' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
