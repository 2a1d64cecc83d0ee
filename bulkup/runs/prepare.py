"""Prepare a run: load the updater, convert its parameters, connect, contact the server once.

Everything is checked before anything is written. If the updater, a parameter, the query or the
server is wrong, no trace is left in Datastore or in the state directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bulkup.authoring import successors
from bulkup.authoring.base_updaters import SelectionUpdater
from bulkup.authoring.built_ins import is_built_in
from bulkup.authoring.definitions import check_max_failures, misspelled
from bulkup.authoring.loader import UpdaterSource, describe, load, make
from bulkup.authoring.parameters import convert, to_text
from bulkup.authoring.updater import Then, Updater
from bulkup.core.errors import BulkupError, QueryError, UpdaterError, UsageError
from bulkup.core.events import Warned
from bulkup.core.model import GateResult, TargetInfo
from bulkup.core.records import RunInfo, new_run_id
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.containment import OutsideTargetError, contained
from bulkup.datastore.greenlets import check_not_replaced, threads_are_replaced
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.datastore.user_client import ReadOnlyClient, UserClient
from bulkup.engine.gates import useless_max_hold
from bulkup.engine.key_scan import KeyPlan, first_of
from bulkup.engine.restore import Restorer
from bulkup.engine.scan import QueryPlan, plan_query
from bulkup.runs.context import RunContext
from bulkup.runs.key_input import KeySource
from bulkup.runs.open_to_run import open_to_run
from bulkup.runs.target import TargetOptions, ignored_emulator
from bulkup.state.kinds import OWN_KINDS
from bulkup.state.restore_list import RestoreList
from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class LoadedUpdater:
    """An updater with its parameters, not yet bound to a target."""

    source: UpdaterSource
    values: Mapping[str, Any]
    """The converted parameters."""
    params: dict[str, str]
    """The same as strings, in the form the command line takes."""
    selection: Selection = EVERYTHING
    """What narrows its query."""

    def create(self) -> Updater:
        """Call the user's `__init__`. Raises UpdaterError."""
        return make(self.source, self.values)


@dataclass
class PreparedRun:
    """An updater and the target it runs on, which has answered."""

    source: UpdaterSource
    params: dict[str, str]
    updater: Updater
    target: Target
    rpc: Rpc
    ledger: Ledger
    query: QueryPlan
    context: RunContext
    first_entity_bytes: int = 0
    """Size of the first entity the query returns; 0: it returns none."""
    nothing_there: str | None = None
    """What exists instead, if the query's kind holds nothing at all."""
    warnings: list[Warned] = field(default_factory=list)
    """Passed on to the run's events when it starts."""
    gate: GateResult | None = None
    """The dry pass that was done before this run, with those of other runs (`--all-namespaces`)."""
    own_links: set[str] = field(default_factory=set)
    """The links of the chain that this process has recorded."""
    retry_of: str = ""
    """The run whose failed entities it handles again; empty: it is not a retry."""
    settled: frozenset[str] = frozenset()
    """The retries of that run whose outcome is already in its list of failures."""
    selection: Selection = EVERYTHING
    """What has narrowed the updater's query."""

    @property
    def identity(self) -> str:
        """The same for every run of this updater with these parameters and this query."""
        return self.query.identity(self.source.spec, self.params)

    @property
    def shown_query(self) -> str:
        """The updater's query as the selection has narrowed it, in GQL; empty if there is no
        selection."""
        return self.query.shown_for(self.selection, self.target.info)

    def new_run_info(self, run_id: str | None, identity: str) -> RunInfo:
        """The fixed facts of a run created now. `run_id` None: make a new id."""
        target, created = self.target.info, self.context.clock.now()
        run_info = RunInfo.new(
            run_id or new_run_id(created),
            self.source,
            self.params,
            target,
            identity=identity,
            fingerprint=self.query.fingerprint(target),
            created=created,
        )
        return replace(
            run_info,
            keys=self.query.digest,
            selection=self.selection,
            retry_of=self.retry_of,
            passes=() if self.context.until_clean else None,
        )


def load_updater(
    updater: Any, params: Mapping[str, Any], selection: Selection = EVERYTHING, *, prefix: str = ""
) -> LoadedUpdater:
    """Load an updater and convert its parameters; check the successors it names, too.
    `prefix`: see `convert`.

    Raises NotFoundError, UsageError, ParameterError, UpdaterError.
    """
    source = load(updater) if isinstance(updater, str) else describe(updater)
    needs_kind = not (prefix or selection.kind or "kind" in params) and _has_no_kind(source)
    also = "--kind KIND (which entities to handle)" if needs_kind else ""
    loaded = with_parameters(source, params, prefix=prefix, also=also)
    successors.check(source)
    return replace(loaded, selection=selection)


def _has_no_kind(source: UpdaterSource) -> bool:
    """Whether nothing in the source says which entities are handled."""
    cls = source.definition
    if not (isinstance(cls, type) and issubclass(cls, SelectionUpdater)):
        return False
    is_given = isinstance(getattr(cls, "kind", None), str)
    return not is_given and cls.get_query is SelectionUpdater.get_query


def load_successor(source: UpdaterSource, then: Then) -> tuple[str, LoadedUpdater]:
    """Load the successor that an updater has asked for, and check the successors that it names in
    turn.

    Returns its link (see `authoring/successors.py`) and the loaded successor. Raises BulkupError.
    """
    folder = os.path.dirname(source.path)
    link = successors.relative_spec(then.updater, folder)
    loaded = with_parameters(load(successors.locate([link], folder)), then.params)
    successors.check(loaded.source)
    return link, loaded


def with_parameters(
    source: UpdaterSource, params: Mapping[str, Any], *, prefix: str = "", also: str = ""
) -> LoadedUpdater:
    """`prefix`, `also`: see `convert`. Raises ParameterError."""
    values = convert(source, params, prefix=prefix, also=also)
    texts = {name: to_text(value) for name, value in values.items()}
    if is_built_in(source.definition) and values.get("kind") is None:
        texts.pop("kind", None)  # the selection has it, and is stored and shown separately
    return LoadedUpdater(source, values, texts)


@contextmanager
def prepare(
    updater: Any,
    params: Mapping[str, Any],
    target_options: TargetOptions,
    context: RunContext,
    *,
    check_target: Callable[[TargetInfo], None] = lambda _: None,
    selection: Selection = EVERYTHING,
    keys: KeySource | None = None,
) -> Iterator[PreparedRun]:
    """Prepare a run on a target that is opened here. Raises BulkupError.

    A CallError that leaves the block is turned into an error that a user can act on.
    `check_target` is called before anything is sent to the target. `selection` narrows the
    updater's query. `keys`: what to work on instead of the query's results.
    """
    ignored = ignored_emulator(target_options)  # later, the environment names our own server
    with (
        open_and_load(
            updater,
            params,
            target_options,
            context,
            check_target=check_target,
            selection=selection,
        ) as (target, loaded, created),
        closing(context.connect(target)) as rpc,
        explained(rpc),
    ):
        prepared = _bind(loaded, created, target, rpc, context, first_contact=True, keys=keys)
        if ignored:
            prepared.warnings.append(Warned(ignored))
        with closing(prepared.query):
            yield prepared


@contextmanager
def open_and_load(
    updater: Any,
    params: Mapping[str, Any],
    target_options: TargetOptions,
    context: RunContext,
    *,
    check_target: Callable[[TargetInfo], None] = lambda _: None,
    selection: Selection = EVERYTHING,
) -> Iterator[tuple[Target, LoadedUpdater, Updater]]:
    """Open a target, then load an updater and create it. Raises BulkupError.

    User code never runs before the target is settled, so whatever it does on import reaches the
    target or nothing. Still, if both the updater and the target are wrong, the updater's error is
    reported.
    """
    with ExitStack() as stack:
        target = unusable = None
        try:
            target = stack.enter_context(open_to_run(target_options, context))
            check_target(target.info)
        except BulkupError as error:
            target, unusable = None, error
        stack.enter_context(contained(context.containment(target)))
        try:
            loaded = load_updater(updater, params, selection)
            created = loaded.create()
        except UpdaterError as error:
            if unusable is not None and isinstance(error.__cause__, OutsideTargetError):
                raise unusable from None  # it needs the target, which cannot be opened
            raise
        if target is None:
            assert unusable is not None
            raise unusable
        yield target, loaded, created


@contextmanager
def prepare_on(target: Target, loaded: LoadedUpdater, context: RunContext) -> Iterator[PreparedRun]:
    """Like `prepare`, on an open target that has answered before."""
    created = loaded.create()
    with closing(context.connect(target)) as rpc, explained(rpc):
        yield _bind(loaded, created, target, rpc, context)


def _bind(
    loaded: LoadedUpdater,
    updater: Updater,
    target: Target,
    rpc: Rpc,
    context: RunContext,
    *,
    first_contact: bool = False,
    keys: KeySource | None = None,
) -> PreparedRun:
    """Give the updater its client, get its query and read the first entity.

    That read shows that the server answers, accepts our credentials and can execute the query.
    `first_contact`: nothing has been sent to the target yet, so its address may be wrong. `keys`:
    what to work on instead of the query's results.
    """
    source, params = loaded.source, loaded.params
    rpc.tag(source.name)
    client_class = ReadOnlyClient if context.options.dry_run else UserClient
    updater.client = client_class.over(rpc, target.client)
    query = checked_query(updater, source, target, loaded.selection)
    if updater._then is not None:  # chosen in __init__ or get_query
        try:
            load_successor(source, updater._then)
        except BulkupError as error:
            message = f"the successor of {source.name} cannot begin: {error.message}"
            raise type(error)(message, details=error.details) from error
    check_max_failures(updater.max_failures, source.name)  # it may be a parameter
    check_not_replaced()
    if context.options.processes > 1 and threads_are_replaced():
        raise UsageError(
            f"--processes does not work with {source.name}, which replaces Python's threads "
            "(gevent, eventlet); leave it out"
        )
    if updater._is_async and threads_are_replaced():
        raise UsageError(
            f"{source.name} is async, which does not work where Python's threads are replaced "
            "(gevent, eventlet); use def"
        )
    if keys is not None:
        key_list = keys.read(query, target.info)
        query = KeyPlan.of(query, key_list.facts, key_list)
        if isinstance(updater, Restorer):
            updater.restores = RestoreList.over(key_list)
    try:
        if first_contact:
            rpc.connect()
        results = _first_of(rpc, query)
    except BaseException:
        query.close()
        raise
    doubts = [misspelled(source.definition)]
    if "max_hold_s" in context.typed_options:
        doubts.append(useless_max_hold(updater, context.options))
    return PreparedRun(
        source,
        params,
        updater,
        target,
        rpc,
        Ledger(rpc, target.info),
        query,
        context.by_server_time(rpc),
        first_entity_bytes=sum(result.ByteSize() for result in results),
        warnings=[Warned(doubt) for doubt in doubts if doubt],
        retry_of=keys.retry_of if keys is not None else "",
        settled=keys.settled if keys is not None else frozenset(),
        selection=loaded.selection,
    )


def _first_of(rpc: Rpc, query: QueryPlan) -> Sequence[Any]:
    """The first result, if there is one. Raises CallError."""
    if isinstance(query, KeyPlan):
        return first_of(rpc, query)
    first = type(query.pb)()
    first.CopyFrom(query.pb)
    first.limit.value = 1
    results = rpc.run_query(first, query.namespace).result().batch.entity_results
    if query.is_kindless:
        return [r for r in results if r.entity.key.path[-1].kind not in OWN_KINDS]
    return list(results)


def has_own_query(updater: Updater) -> bool:
    """Whether the updater has a query that a selection could narrow."""
    return not isinstance(updater, SelectionUpdater) or updater.has_kind


def checked_query(
    updater: Updater, source: UpdaterSource, target: Target, selection: Selection = EVERYTHING
) -> QueryPlan:
    """Get the query of an updater that has its client, check it, and narrow it to a selection.
    Raises BulkupError."""
    if isinstance(updater, SelectionUpdater):
        if not has_own_query(updater):
            if not selection.kind:
                raise UsageError(
                    f"{source.name} has no query of its own; say with --kind which entities to "
                    "handle"
                )
            updater.selected_kind = selection.kind
        updater.check_kind()
    query = _get_query(updater, source)
    namespace = getattr(query, "namespace", target.info.namespace) or ""
    if target.one_of_many and namespace != target.info.namespace:
        raise QueryError(
            f"get_query of {source.name} sets the namespace {namespace!r} itself, so every "
            "namespace would run it there again; build the query with self.client.query(kind=...) "
            "alone, or run without --all-namespaces and --namespaces"
        )
    return plan_query(query, target.client, selection)


def _get_query(updater: Updater, source: UpdaterSource) -> object:
    try:
        return updater.get_query()
    except (BulkupError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UpdaterError(
            f"get_query of {source.name} raised {error_line(error)}; nothing was started",
            details=user_traceback(error),
        ) from error
