"""A project with data of several tenants, on the servers that can list namespaces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

from bulkup.state.kinds import CLAIM_KIND, GROUP_KIND, RUN_KIND
from tests.cli.shell import Shell, contents, markers, seed, values
from tests.conftest import Server, _server

NAMESPACES = ("", "tenant-1", "tenant-2", "tenant-10")
"""In their natural order."""

BUMP = """
    import os, signal
    from bulkup import Updater

    class Bump(Updater):
        '''Count every Item up.'''

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            here = self.client.namespace or ""
            if os.environ.get("DIE_IN") == here and entity.key.id == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("FAIL_IN") == here and entity.key.id == 4:
                raise ValueError("not today")
            if os.environ.get("STOP_IN") == here and entity.key.id == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            entity["n"] += 1
            self.put(entity)
"""
"""Not idempotent, so that an entity handled twice or not at all shows."""

SMALL = ("--batch-size", "2", "--in-flight", "2")
"""Small batches, so that some are committed when the process dies."""


@dataclass
class Tenants:
    server: Server
    shell: Shell

    def client(self, namespace: str) -> datastore.Client:
        return self.server.client(namespace=namespace)

    def values(self, *namespaces: str) -> dict[str, set[Any]]:
        """The different values of `n` in each namespace."""
        return {
            namespace: set(values(self.client(namespace)).values())
            for namespace in namespaces or NAMESPACES
        }

    def records(self, namespace: str, kind: str = RUN_KIND) -> list[datastore.Entity]:
        return list(self.client(namespace).query(kind=kind).fetch())

    def assert_each_done(self, times: int = 1, namespaces: Iterable[str] = NAMESPACES) -> None:
        """Every entity was handled this many times, and only run records are left."""
        assert self.values(*namespaces) == {namespace: {times} for namespace in namespaces}
        assert self.records("", GROUP_KIND) == []
        assert all(self.records(namespace, CLAIM_KIND) == [] for namespace in namespaces)

    def contents(self) -> dict[bytes, tuple[int, bytes]]:
        return contents(self.server, *NAMESPACES)

    def markers(self) -> list[bytes]:
        return markers(self.server, *NAMESPACES)


def make_tenants(folder: Path, server: Server) -> Tenants:
    shell = Shell(folder, server)
    shell.write("bump.py", BUMP)
    for namespace in NAMESPACES:
        seed(server, 6, namespace=namespace or None).close()
    return Tenants(server, shell)


@pytest.fixture(params=["EM", "LF"])
def tenants(request: pytest.FixtureRequest, tmp_path: Path) -> Tenants:
    return make_tenants(tmp_path, _server(request, request.param))


@pytest.fixture
def embedded_tenants(tmp_path: Path, embedded: Server) -> Tenants:
    return make_tenants(tmp_path, embedded)
