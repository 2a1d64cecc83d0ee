"""bulkup applies your Python function to every entity of a Datastore query, exactly once.

Users may rely on the names in `__all__`. Those that need grpc and google.cloud are imported on
first use, so that `bulkup --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkup.authoring.base_updaters import BulkDelete, BulkPut
from bulkup.authoring.function_updater import updater
from bulkup.authoring.model_keys import delete, key_of
from bulkup.authoring.param import param
from bulkup.authoring.running import client
from bulkup.authoring.updater import Updater
from bulkup.authoring.writes import REMOVE
from bulkup.core import grpc_forks  # noqa: F401 - before any import of grpc, so not a lazy one
from bulkup.core.errors import BulkupError
from bulkup.core.version import __version__ as __version__

if TYPE_CHECKING:
    from bulkup.api import run
    from bulkup.authoring.field_marks import EntityKey, Unindexed
    from bulkup.core.events import Report

__all__ = [
    "REMOVE",
    "BulkDelete",
    "BulkPut",
    "BulkupError",
    "EntityKey",
    "Report",
    "Unindexed",
    "Updater",
    "client",
    "delete",
    "key_of",
    "param",
    "run",
    "updater",
]

_LAZY = {
    "EntityKey": "bulkup.authoring.field_marks",
    "Report": "bulkup.core.events",
    "Unindexed": "bulkup.authoring.field_marks",
    "run": "bulkup.api",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bulkup' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
