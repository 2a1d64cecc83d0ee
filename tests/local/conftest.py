"""The embedded Datastore, started once for the tests that compare it with other servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def embedded_host() -> Iterator[str]:
    from bulkup.local.process import start_local

    with start_local(None) as server:
        yield server.host
