from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

import bulkup
from bulkup.core.events import Report
from tests.conftest import Server

Run = Callable[..., Report]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`bulkup.run` on a server, with its state in a folder of the test's own."""

    def run_on(server: Server, updater: Any, **options: Any) -> Report:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        options.setdefault("state_dir", tmp_path / "state")
        return bulkup.run(updater, project=server.project, **options)

    return run_on


def fill(server: Server, kind: str, count: int, **properties: Any) -> datastore.Client:
    """Put `count` entities, ids from 1, each with `i` and the properties (callables get i)."""
    client = server.client()
    entities = []
    for i in range(1, count + 1):
        entity = datastore.Entity(client.key(kind, i))
        entity["i"] = i
        for name, value in properties.items():
            entity[name] = value(i) if callable(value) else value
        entities.append(entity)
    for start in range(0, count, 500):
        client.put_multi(entities[start : start + 500], timeout=600)  # LF may be busy
    return client


def everything(client: datastore.Client, kind: str) -> list[datastore.Entity]:
    return sorted(client.query(kind=kind).fetch(), key=lambda e: e.key.flat_path)
