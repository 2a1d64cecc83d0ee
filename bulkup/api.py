"""The Python API: `bulkup run` as a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError
from bulkup.core.events import Event, Listener, Report, RunEnded, Warned
from bulkup.core.paths import current_directory
from bulkup.engine.options import Options
from bulkup.engine.pool import worker_main
from bulkup.engine.selecting import selection_of
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import prepare
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions
from bulkup.state.display import DEFAULT_STATE_DIR


def run(  # noqa: PLR0913  # the options of `bulkup run`, by name
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
    max_failures: int | str | None = None,
    limit: int | None = None,
    retry_for_s: float | None = None,
    window: str | None = None,
    health_url: str | None = None,
    health_cmd: str | None = None,
    max_hold_s: float | None = None,
    undo: bool = True,
    allow_empty: bool = False,
    once: bool = False,
    gate: str | None = None,
    kind: str | None = None,
    ancestor: str | None = None,
    where: str | None = None,
    listener: Listener | None = None,
) -> Report:
    """Run an updater and return its report: `bulkup run` as a function.

    `updater` is what the command takes, or the class or decorated function itself. The target is
    resolved as `google.cloud.datastore.Client()` resolves it. `max_rate` is "auto", "off", or
    entities per second; `max_failures` a number, or a share of the entities handled ("1%"). With
    `processes` above 1, each worker process loads the updater again from its file: call this below
    `if __name__ == "__main__":`, and expect each worker to keep its own `self`.
    `allow_empty`: run also if the query's kind is not there, but a similar one is.
    `undo`: keep before-images, so that `bulkup undo` can put back what the run changes.
    `once`: if a run has finished the same work, do nothing; the report then has that run's id.
    `gate="clean"`: begin to write only after a dry pass over all entities without failures; if it
    is not clean, the report is of that pass (`report.gate.passed` is False).
    `window` ("22:00-06:00 Europe/Zurich"), `health_url` and `health_cmd` say when it may work; it
    waits otherwise, after `max_hold_s` of a health check that says no it stops.
    `kind`, `ancestor` (a key, `"KEY(Customer, 5)"`) and `where` (a condition of GQL,
    `"age > 30"`) narrow the updater's query.
    Nothing is printed; `listener` is called with each event.

    Raises BulkupError when the run cannot start. Once it has started, the report says how it ended.
    """
    if worker_main.IS_LOADING:
        raise UsageError(
            "this file starts a run when it is imported, and worker processes import it "
            '(processes=); move the call below `if __name__ == "__main__":`'
        )
    if gate not in (None, "clean"):
        raise UsageError(f"gate is {gate!r}; the only gate is 'clean'")
    if gate and dry_run:
        raise UsageError("a dry run is what gate='clean' does first; leave one of them out")
    given: dict[str, Any] = {
        "batch_size": batch_size,
        "in_flight": in_flight,
        "shards": shards,
        "processes": processes,
        "max_failures": max_failures,
        "limit": limit,
        "retry_for_s": retry_for_s,
        "window": window,
        "health_url": health_url,
        "health_cmd": health_cmd,
        "max_hold_s": max_hold_s,
        "max_rate": None if max_rate is None else MaxRate.parse(str(max_rate)),
    }
    options = Options(
        dry_run=dry_run,
        no_undo=not undo,
        **{name: value for name, value in given.items() if value is not None},
    )
    context = RunContext(
        options, Path(state_dir), _saving_pages(listener or _ignore),
        allow_empty=allow_empty, once=once, gate=gate is not None,
    )  # fmt: skip
    target = TargetOptions(project, database, namespace, local)
    selection = selection_of(kind, ancestor, [] if where is None else [where])
    with prepare(updater, params or {}, target, context, selection=selection) as prepared:
        return start(prepared)


def _saving_pages(listener: Listener) -> Listener:
    """Also writes the page of each run that ends into its folder."""
    from bulkup.report.save import save_page
    from bulkup.runs.run_facts import facts_of_end

    started_in = Path(current_directory())  # an updater may change it

    def listen(event: Event) -> None:
        if isinstance(event, RunEnded) and event.report.state_file:
            folder = (started_in / event.report.state_file).parent
            if why := save_page(facts_of_end(folder, event.report), folder):
                listener(Warned(f"the page of the run could not be written: {why}"))
        listener(event)

    return listen


def _ignore(event: Event) -> None:
    pass
