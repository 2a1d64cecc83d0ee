"""Jobs: an updater with its parameters, made ready to work on a target that answers.

Everything is checked before anything is made: a run whose updater, parameters, query or server is
not right leaves no trace.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkup.authoring import successors
from bulkup.authoring.loader import UpdaterSource, describe, load, make
from bulkup.authoring.parameters import convert, to_text
from bulkup.authoring.updater import Updater
from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, QueryError, UpdaterError, UsageError
from bulkup.core.events import Listener, Warned
from bulkup.core.model import TargetInfo
from bulkup.core.records import RunInfo
from bulkup.core.stop import StopRequest
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target, resolve
from bulkup.datastore.user_client import ReadOnlyClient, UserClient
from bulkup.engine.options import Options
from bulkup.engine.scan import QueryPlan, plan_query


@dataclass(frozen=True)
class TargetOptions:
    """The target as it was asked for; None: as the environment says."""

    project: str | None = None
    database: str | None = None
    namespace: str | None = None
    local: str | None = None


@dataclass
class PreparedRun:
    """An updater ready to work on a target that answers."""

    source: UpdaterSource
    updater: Updater
    params: dict[str, str]
    target: Target
    rpc: Rpc
    query: QueryPlan
    stop: StopRequest
    entity_bytes: int = 0
    """Of the first entity that the query finds."""
    warnings: list[Warned] = field(default_factory=list)

    def run_info(self, run_id: str, identity: str, clock: Clock) -> RunInfo:
        """A run of this updater that starts now."""
        info = self.target.info
        fingerprint = self.query.fingerprint(info)
        return RunInfo.new(
            run_id, self.source, self.params, info,
            identity=identity, fingerprint=fingerprint, clock=clock,
        )  # fmt: skip


@dataclass(frozen=True)
class RunContext:
    """How this process works on runs."""

    options: Options
    state_dir: Path
    listener: Listener
    wait_s: float = 0.0
    """For another runner that works on the same run."""
    clock: Clock = field(default_factory=Clock)
    again: str = ""
    """The command that goes on with what was begun; empty: `bulkup resume RUN`."""


@dataclass(frozen=True)
class Task:
    """An updater and its parameters, not bound to a target yet."""

    source: UpdaterSource
    values: Mapping[str, Any]

    @property
    def params(self) -> dict[str, str]:
        """Parameters as the command line would take them."""
        return {name: to_text(value) for name, value in self.values.items()}

    def make(self) -> Updater:
        return make(self.source, self.values)


def task_of(updater: Any, params: Mapping[str, Any]) -> Task:
    """Load and convert, and look at what follows. Raises BulkupError for whatever is wrong."""
    source = load(updater) if isinstance(updater, str) else describe(updater)
    task = Task(source, convert(source, params))
    successors.check(source)
    return task


@contextmanager
def prepare(
    updater: Any,
    params: Mapping[str, Any],
    where: TargetOptions,
    *,
    dry_run: bool = False,
    retry_for_s: float = RetryPolicy.retry_for_s,
    check: Callable[[TargetInfo], None] = lambda _: None,
    clock: Clock | None = None,
) -> Iterator[PreparedRun]:
    """Load, convert, connect, ask the server once. Raises BulkupError for whatever is wrong.

    `check` sees the target before anything is sent to it.
    """
    task = task_of(updater, params)
    task.make()  # what its __init__ raises is known before anybody is asked for credentials
    with opened(where) as target:
        check(target.info)
        with prepare_on(
            target,
            task,
            stop=StopRequest(),
            retry_for_s=retry_for_s,
            clock=clock or Clock(),
            dry_run=dry_run,
            first_contact=True,
        ) as prepared:
            yield prepared


@contextmanager
def prepare_on(
    target: Target,
    task: Task,
    *,
    stop: StopRequest,
    retry_for_s: float = RetryPolicy.retry_for_s,
    clock: Clock,
    dry_run: bool = False,
    first_contact: bool = False,
) -> Iterator[PreparedRun]:
    """Make a task ready on a target that is open already, and has answered unless it is the
    first contact. Raises BulkupError."""
    updater = task.make()
    rpc = Rpc(
        target.client,
        retry_policy=RetryPolicy(retry_for_s, stopping_s=stop.seconds),
        sleep=clock.sleep,
        monotonic=clock.monotonic,
    )
    updater.client = (ReadOnlyClient if dry_run else UserClient).over(rpc, target.client)
    try:
        query = plan_on(target, updater, task.source)
        entity_bytes = _say_hello(rpc, query, first_contact)
        yield PreparedRun(task.source, updater, task.params, target, rpc, query, stop, entity_bytes)
    finally:
        rpc.close()


@contextmanager
def opened(where: TargetOptions) -> Iterator[Target]:
    """The target, with its embedded Datastore started where it is one. Raises BulkupError."""
    if where.local is None:
        yield resolve(where.project, where.database, where.namespace)
        return
    if not os.path.exists(where.local):
        raise UsageError(
            f"there is no file {where.local!r}; `bulkup local load` makes one from JSON lines, "
            "`bulkup demo` one to play with"
        )
    from bulkup.local.process import start_local

    with start_local(where.local) as server:
        yield resolve(
            where.project,
            where.database,
            where.namespace,
            local=where.local,
            address=server.host,
        )


def plan_on(target: Target, updater: Updater, source: UpdaterSource) -> QueryPlan:
    """The checked query of an updater that has its client. Raises BulkupError."""
    query = plan_query(_query_of(updater, source), target.client)
    if target.one_of_many and query.namespace != target.info.namespace:
        raise QueryError(
            f"get_query of {source.name} names a namespace ({query.namespace!r}) by itself, so it "
            "would run there again for each; build it with self.client.query(kind=...) alone, or "
            "run it without --all-namespaces and --namespaces"
        )
    return query


def _query_of(updater: Updater, source: UpdaterSource) -> object:
    try:
        return updater.get_query()
    except BulkupError:
        raise
    except (Exception, SystemExit) as error:
        raise UpdaterError(
            f"get_query of {source.name} raised {error_line(error)}; nothing was started",
            details=user_traceback(error),
        ) from error


def _say_hello(rpc: Rpc, query: QueryPlan, first_contact: bool) -> int:
    """Ask for the first entity: shows that the server answers, lets us in, and can run this.

    Gives its size.
    """
    pb = type(query.pb)()
    pb.CopyFrom(query.pb)
    pb.limit.value = 1
    with explained(rpc):
        if first_contact:
            rpc.connect()
        batch = rpc.run_query(pb, query.namespace).result().batch
    return sum(result.ByteSize() for result in batch.entity_results)
