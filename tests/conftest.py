"""Fixtures that every test may use: real servers, and a Datastore of one's own on them."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import pytest
from google.cloud import datastore

from bulkup.local.process import start_local
from tests.emulators import emulator

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Run in the background of a shell: Ctrl-C would be ignored here and in every process that the
    # tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Server:
    """A running Datastore server, and a project on it that no other test uses."""

    name: str
    host: str
    project: str

    def client(self, **options: str) -> datastore.Client:
        """The official client, pointed here whatever the environment says."""
        with mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=self.host):
            return datastore.Client(project=self.project, **options)


@pytest.fixture(scope="session")
def lf_host() -> Iterator[str]:
    with emulator("LF") as host:
        yield host


@pytest.fixture(scope="session")
def l_host() -> Iterator[str]:
    with emulator("L") as host:
        yield host


@pytest.fixture(scope="session")
def fs_host() -> Iterator[str]:
    with emulator("FS") as host:
        yield host


@pytest.fixture(scope="session")
def em_host() -> Iterator[str]:
    """The embedded Datastore, in memory."""
    with start_local(None) as server:
        yield server.host


def _server(request: pytest.FixtureRequest, name: str) -> Server:
    host = request.getfixturevalue(f"{name.lower()}_host")
    return Server(name, host, f"t-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def lf(request: pytest.FixtureRequest) -> Server:
    return _server(request, "LF")


@pytest.fixture
def fs(request: pytest.FixtureRequest) -> Server:
    return _server(request, "FS")


@pytest.fixture
def legacy(request: pytest.FixtureRequest) -> Server:
    return _server(request, "L")


@pytest.fixture
def embedded(request: pytest.FixtureRequest) -> Server:
    return _server(request, "EM")


@pytest.fixture(params=["EM", "LF", "FS"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each test that asks for this runs once on every everyday server."""
    return _server(request, request.param)
