from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

import bulkup
from bulkup.core.clock import Clock
from bulkup.core.events import Event, Report
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import prepare
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions
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


class Hours:
    """A clock that also advances by what is said to have passed."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.clock = Clock(monotonic=lambda: time.monotonic() + self.passed)


@pytest.fixture
def hours() -> Hours:
    return Hours()


Start = Callable[..., Report]


@pytest.fixture
def start_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: Hours) -> Start:
    """`bulkup.run` with a clock of the test's own."""

    def start_it(
        server: Server, updater: Any, listener: Callable[[Event], None], **options: Any
    ) -> Report:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        context = RunContext(Options(**options), tmp_path / "state", listener, clock=hours.clock)
        with prepare(updater, {}, TargetOptions(server.project), context) as prepared:
            return start(prepared)

    return start_it


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
    for first in range(0, count, 500):
        client.put_multi(entities[first : first + 500], timeout=600)  # LF may be busy
    return client


def everything(client: datastore.Client, kind: str) -> list[datastore.Entity]:
    return sorted(client.query(kind=kind).fetch(), key=lambda e: e.key.flat_path)
