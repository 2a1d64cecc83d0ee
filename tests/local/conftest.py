from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def embedded_host(em_host: str) -> str:
    """The embedded Datastore that all tests share, under the name that these tests know."""
    return em_host
