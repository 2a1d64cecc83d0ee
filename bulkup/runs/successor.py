"""A run's successor: the record it starts with, and the check that it is still the same work."""

from __future__ import annotations

import os
from dataclasses import replace

from bulkup.authoring import successors
from bulkup.authoring.loader import load
from bulkup.core.errors import MismatchError
from bulkup.core.model import RunState
from bulkup.core.records import next_id
from bulkup.datastore.user_client import UserClient
from bulkup.runs.prepare import PreparedRun, checked_query, with_parameters
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

    `record` is that of the finished run. Raises BulkupError when the successor cannot be loaded.
    """
    then = successors.wanted(prepared.source, prepared.updater)
    if then is None:
        return None
    folder = os.path.dirname(prepared.source.path)
    link = successors.relative_spec(then.updater, folder)
    prepared.own_links.add(link)
    loaded = with_parameters(load(successors.locate([link], folder)), then.params)
    updater = loaded.create()
    updater.client = UserClient.over(prepared.rpc, prepared.target.client)
    query = checked_query(updater, loaded.source, prepared.target)
    successor = replace(
        prepared, source=loaded.source, params=loaded.params, updater=updater, query=query
    )
    return RunRecord(
        successor.new_run_info(next_id(record.run_info.run_id), record.run_info.identity),
        RunState.RUNNING,
        keep=record.keep,
        migration=replace(record.migration, marked=None) if record.migration else None,
        chain=Chain((*record.chain.links, link), query.identity(loaded.source.name, loaded.params)),
        warm=record.warm,
    )
