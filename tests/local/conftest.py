"""Embedded Datastores for tests, and a raw client of one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from bulkup.local.server import DatastoreServer
from tests.local.rpc import Rpc


@pytest.fixture(scope="session")
def embedded_host(em_host: str) -> str:
    """The embedded Datastore that all tests share, under the name that these tests know."""
    return em_host


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with DatastoreServer(tmp_path_factory.mktemp("local") / "db") as server:
        yield server.host


@pytest.fixture
def rpc(host: str) -> Iterator[Rpc]:
    client = Rpc(host, project=f"t-{uuid.uuid4().hex[:12]}")
    yield client
    client.close()
