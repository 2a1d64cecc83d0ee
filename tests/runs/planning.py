"""Plans in this process, beside the runs that they foresee."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bulkup.core.events import Event
from bulkup.core.plan import Plan
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.plan import PlanRequest, make_plan
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.target import TargetOptions
from tests.conftest import Server


@contextmanager
def prepared_for(
    server: Server, updater: Any, listener: Any = None, **params: Any
) -> Iterator[PreparedRun]:
    """Where DATASTORE_EMULATOR_HOST names the server."""
    context = RunContext(Options(dry_run=True), Path("nowhere"), listener or _ignore)
    with prepare(updater, params, TargetOptions(server.project), context) as prepared:
        yield prepared


def plan_on(server: Server, updater: Any, **request: Any) -> Plan:
    with prepared_for(server, updater) as prepared:
        return make_plan(prepared, PlanRequest(**request))


def _ignore(event: Event) -> None:
    pass
