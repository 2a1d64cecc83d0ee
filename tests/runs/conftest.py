from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.events import Report
from bulkup.engine import suspects
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import prepare
from bulkup.runs.target import TargetOptions
from bulkup.runs.verify import verify
from tests.conftest import Server
from tests.engine.conftest import run

Verify = Callable[..., Report]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verify on a server, with a state directory that must never appear."""
    monkeypatch.setattr(suspects, "RECHECK_S", 0.1)

    def check_on(server: Server, updater: Any, **options: Any) -> Report:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        out = options.pop("out", None)
        listener = options.pop("listener", lambda event: None)
        state = tmp_path / "no-state"
        context = RunContext(Options(dry_run=True, **options), state, listener)
        target = TargetOptions(project=server.project)
        with prepare(updater, {}, target, context) as prepared:
            report = verify(prepared, out)
        assert not state.exists()
        return report

    return check_on


def keys_of(report: Report) -> set[str]:
    """The first keys of each group of findings."""
    return {key for group in report.failure_groups for key in group.keys}


def named(*ids: int) -> set[str]:
    return {f"Key('Thing', {i})" for i in ids}


@bulkup.updater(kind="Thing")
def double(entity: Entity) -> Entity:
    entity["twice"] = 2 * entity["i"]
    return entity


__all__ = ["run"]
