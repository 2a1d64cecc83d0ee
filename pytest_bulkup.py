"""The pytest plugin: fixtures for tests of updaters.

`datastore` is a `google.cloud.datastore.Client` for an empty embedded Datastore, which only this
test has. `bulkup_run(updater, entities, **params)` is `bulkup.testing.run_updater` on that one.

pytest imports this file in every session of an environment where bulkup is installed. So it is not
in the package, which would be imported with it, and imports nothing before a fixture is used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from google.cloud.datastore import Client

    from bulkup.testing.results import RunResult
    from bulkup.testing.store import Store


class BulkupRun:
    """Runs updaters on the Datastore of a test."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, updater: Any, entities: Any = (), /, **params: Any) -> RunResult:
        """`run_updater`, on what the test's Datastore holds and on `entities`, which are put first.

        Raises what `run_updater` raises.
        """
        __tracebackhide__ = True
        from bulkup.testing.own_frames import without_own_frames
        from bulkup.testing.running import Given, run_on

        @without_own_frames
        def run() -> RunResult:
            __tracebackhide__ = True
            Given(updater, params, entities).fill(self._store)
            return run_on(self._store, updater, params)

        return run()


@pytest.fixture
def _bulkup_store() -> Iterator[Store]:
    from bulkup.testing.running import empty_store

    with empty_store() as store:
        yield store


@pytest.fixture
def datastore(_bulkup_store: Store) -> Client:
    """A client for an empty embedded Datastore. Meanwhile `Client()` means the same one."""
    return _bulkup_store.client


@pytest.fixture
def bulkup_run(_bulkup_store: Store) -> BulkupRun:
    """`bulkup_run(updater, entities, **params)` runs an updater on the fixture `datastore`."""
    return BulkupRun(_bulkup_store)


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """Show entity by entity what a run has written, and what was expected."""
    if op != "==" or "bulkup.testing.results" not in sys.modules:
        return None
    from bulkup.testing.expected import explain

    return explain(left, right)
