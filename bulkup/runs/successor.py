"""A run's successor: the record it starts with, and the check that it is still the same work."""

from __future__ import annotations

from dataclasses import replace

from bulkup.authoring import successors
from bulkup.authoring.named_successors import AGAIN
from bulkup.authoring.then_calls import then_problems
from bulkup.authoring.updater import Then
from bulkup.core.errors import BulkupError, MismatchError
from bulkup.core.events import Warned, WarningKind
from bulkup.core.model import GateResult, RunState
from bulkup.core.records import next_id
from bulkup.core.selection import EVERYTHING
from bulkup.datastore.user_client import ReadOnlyClient, UserClient
from bulkup.runs.passes import check_repeatable, passes_of, why_not_clean
from bulkup.runs.prepare import PreparedRun, checked_query, has_own_query, load_successor
from bulkup.state.record import Chain, RunRecord


def check_same_successor(prepared: PreparedRun, record: RunRecord) -> None:
    """Check that the updater loaded now is the successor that was recorded.

    Raises MismatchError.
    """
    if record.chain.work != prepared.query.identity(prepared.source.name, prepared.params):
        raise MismatchError(
            f"the successor {record.run_info.run_id} was recorded with another query, class or "
            f"parameters than {prepared.source.path} has now; restore them, or start a new run "
            "(--new)"
        )


def successor_record(prepared: PreparedRun, record: RunRecord) -> RunRecord | None:
    """The record of the successor that a finished run's updater asks for; None: it asks for none.

    `record` is that of the finished run. Raises BulkupError when the successor cannot begin.
    """
    passes = passes_of(prepared.context, record)
    if passes is not None and record.counts.writes:
        if why_not_clean(passes, record.counts):
            return None
        return _next_pass(prepared, record, passes)
    then = successors.wanted(prepared.source, prepared.updater)
    if then is None or _is_of_part(prepared):
        return None
    link, successor = _created(prepared, then)
    prepared.own_links.add(link)
    source, query = successor.source, successor.query
    run_info = successor.new_run_info(next_id(record.run_info.run_id), record.run_info.identity)
    return RunRecord(
        replace(run_info, passes=None),
        RunState.RUNNING,
        keep=record.keep,
        migration=replace(record.migration, marked=None) if record.migration else None,
        chain=Chain((*record.chain.links, link), query.identity(source.name, successor.params)),
        gate=GateResult() if record.gate is not None else None,  # its own dry pass is still to come
        warm=record.warm,
        steering=record.steering,
    )


def _next_pass(prepared: PreparedRun, record: RunRecord, passes: tuple[int, ...]) -> RunRecord:
    """The record of the next pass of the same updater. Raises UsageError."""
    check_repeatable(prepared)
    times = prepared.ledger.times(record.run_info.run_id)
    run_info = prepared.new_run_info(next_id(record.run_info.run_id), record.run_info.identity)
    return RunRecord(
        replace(
            run_info,
            passes=(*passes, record.counts.writes),
            since_ns=times.created_ns if times is not None else 0,
        ),
        RunState.RUNNING,
        migration=replace(record.migration, marked=None) if record.migration else None,
        chain=Chain(
            (*record.chain.links, AGAIN),
            prepared.query.identity(prepared.source.name, prepared.params),
        ),
        gate=GateResult() if record.gate is not None else None,
        plan=record.plan.of_further_pass() if record.plan is not None else None,
        warm=record.warm,
        steering=record.steering,
    )


def _is_of_part(prepared: PreparedRun) -> bool:
    """Whether the run covers only a list of keys or a part of its query. Such a run does not start
    its successor, which waits for the whole query. The successor of a retried run began when that
    run itself was finished."""
    is_narrowed = bool(prepared.selection) and has_own_query(prepared.updater)
    return bool(prepared.query.digest) or is_narrowed


def foretell_successor(prepared: PreparedRun) -> list[Warned]:
    """Warnings, before the run's end, about a successor that will not begin.

    A run warns of what the code shows. A dry run also tries to create the successor, although that
    may depend on what the run changes.
    """
    source, is_dry = prepared.source, prepared.context.options.dry_run
    if _is_of_part(prepared):
        if prepared.retry_of or successors.wanted(source, prepared.updater) is None:
            return []
        part = "a list of keys" if prepared.query.digest else "a part of the query"
        message = f"the successor of {source.name} does not begin after a run on {part}"
        return [Warned(message, WarningKind.SUCCESSOR)]
    messages = then_problems(source, loads=is_dry)
    then = successors.wanted(source, prepared.updater)
    if is_dry and then is not None:
        try:
            _created(prepared, then)
        except BulkupError as error:
            messages.append(
                f"as things are now, the successor of {source.name} cannot begin: {error.message}"
            )
    return [Warned(message, WarningKind.SUCCESSOR) for message in messages]


def _created(prepared: PreparedRun, then: Then) -> tuple[str, PreparedRun]:
    """A successor's link, and the successor with its query. Raises BulkupError."""
    link, loaded = load_successor(prepared.source, then)
    updater = loaded.create()
    client_class = ReadOnlyClient if prepared.context.options.dry_run else UserClient
    updater.client = client_class.over(prepared.rpc, prepared.target.client)
    query = checked_query(updater, loaded.source, prepared.target)
    return link, replace(
        prepared, source=loaded.source, params=loaded.params, updater=updater, query=query,
        selection=EVERYTHING,
    )  # fmt: skip
