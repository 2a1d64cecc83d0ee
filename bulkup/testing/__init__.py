"""For tests of your own updaters: no project, no credentials, no emulator.

    from bulkup.testing import crash_test, handle, run_updater

    def test_one_call_of_the_handler():
        assert handle(full_name, {"first": "Ada", "last": "Lovelace"}).puts[0]["full_name"] == ...

    def test_a_whole_run():
        result = run_updater(full_name, [{"first": "Ada", "last": "Lovelace"}])
        assert not result.failed
        assert not result.warnings
        assert result.written == [{"first": "Ada", "last": "Lovelace", "full_name": ...}]

    def test_it_survives_crashes():
        assert crash_test(full_name, [{"first": "Ada", "last": "Lovelace"}]).idempotent

`handle` and `query` need no Datastore. The others run the real engine on an embedded Datastore in
this process, and import it when they are first used.

    handling.py   handle, query, offline_client
    entities.py   what tests give as entities
    store.py      a fresh embedded Datastore
    running.py    run_updater
    results.py    what it returns              expected.py   how a comparison that fails is shown
    own_frames.py bulkup's frames, left out    new_ids.py    ids that differ from run to run
    crashing.py   crash_test                   memory.py     what a process forgets when it dies

The fixtures `datastore` and `bulkup_run` are in the pytest plugin, `pytest_bulkup.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkup.testing.handling import Writes, handle, offline_client, query

if TYPE_CHECKING:
    from bulkup.testing.crashing import CrashResult, crash_test
    from bulkup.testing.results import Diff, FailedEntity, RunFailedError, RunResult
    from bulkup.testing.running import run_updater

__all__ = [
    "CrashResult",
    "Diff",
    "FailedEntity",
    "RunFailedError",
    "RunResult",
    "Writes",
    "crash_test",
    "handle",
    "offline_client",
    "query",
    "run_updater",
]

_LAZY = {
    "CrashResult": "crashing",
    "Diff": "results",
    "FailedEntity": "results",
    "RunFailedError": "results",
    "RunResult": "results",
    "crash_test": "crashing",
    "run_updater": "running",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bulkup.testing' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"bulkup.testing.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
