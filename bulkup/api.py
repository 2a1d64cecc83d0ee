"""The door for Python: what `bulkup run` does, as a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError
from bulkup.core.events import Event, Listener, Report
from bulkup.engine.options import Options
from bulkup.engine.pool import worker_main
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.runs.prepare import RunContext, TargetOptions, prepare
from bulkup.runs.start import start
from bulkup.state.display import DEFAULT_STATE_DIR


def run(
    updater: str | type[Updater] | Callable[..., Any],
    *,
    params: Mapping[str, Any] | None = None,
    project: str | None = None,
    database: str | None = None,
    namespace: str | None = None,
    local: str | None = None,
    state_dir: str | Path = DEFAULT_STATE_DIR,
    dry_run: bool = False,
    batch_size: int | None = None,
    in_flight: int | None = None,
    shards: int | None = None,
    processes: int | None = None,
    max_rate: float | str | None = None,
    max_failures: int | None = None,
    limit: int | None = None,
    retry_for_s: float | None = None,
    listener: Listener | None = None,
) -> Report:
    """What `bulkup run` does, from Python: run an updater and return its report.

    `updater` is what the command takes, or the class or decorated function itself. The target is
    found as `google.cloud.datastore.Client()` finds it. `max_rate`: "auto", "off", or entities a
    second. `processes`: more than one load the updater again from its file, so a script calls this
    below `if __name__ == "__main__":`, and what handlers keep on `self` is of each process. Nothing
    is printed; `listener` gets the events. Raises BulkupError when the run cannot begin; how a
    begun one ended is in the report.
    """
    if worker_main.IS_LOADING:
        raise UsageError(
            "this file begins a run when it is imported, and worker processes import it "
            '(processes=): put what begins the run below `if __name__ == "__main__":`'
        )
    given: dict[str, Any] = {
        "batch_size": batch_size,
        "in_flight": in_flight,
        "shards": shards,
        "processes": processes,
        "max_rate": None if max_rate is None else MaxRate.parse(str(max_rate)),
        "max_failures": max_failures,
        "limit": limit,
        "retry_for_s": retry_for_s,
    }
    options = Options(dry_run=dry_run, **{k: v for k, v in given.items() if v is not None})
    where = TargetOptions(project, database, namespace, local)
    with prepare(
        updater, params or {}, where, dry_run=dry_run, retry_for_s=options.retry_for_s
    ) as prepared:
        return start(prepared, RunContext(options, Path(state_dir), listener or _nobody))


def _nobody(event: Event) -> None:
    pass
