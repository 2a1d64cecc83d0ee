"""The run that begins with the end of another: its record, and whether it is the same still."""

from __future__ import annotations

import os
from dataclasses import replace

from bulkup.authoring import successors
from bulkup.authoring.loader import load, make
from bulkup.authoring.parameters import convert, to_text
from bulkup.core.clock import Clock
from bulkup.core.errors import MismatchError
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo, next_id
from bulkup.datastore.user_client import UserClient
from bulkup.runs.prepare import PreparedRun, plan_on
from bulkup.state.record import Chain, RunRecord


def first_id(run_id: str) -> str:
    """The id of the first run of the chain that a run belongs to."""
    return run_id.partition("+")[0]


def same_work(prepared: PreparedRun, record: RunRecord) -> None:
    """The successor that was recorded is the one that was loaded. Raises MismatchError."""
    if record.chain.work != prepared.query.identity(prepared.source.name, prepared.params):
        raise MismatchError(
            f"run {record.run_info.run_id} follows with another query, class or parameters than "
            f"{prepared.source.path} has now: restore these, or begin anew (--new)"
        )


def begin(prepared: PreparedRun, record: RunRecord, clock: Clock) -> RunRecord | None:
    """The record of the successor that an updater wants, whose run has the record `entry`."""
    then = successors.wanted(prepared.source, prepared.updater)
    if then is None:
        return None
    folder = os.path.dirname(prepared.source.path)
    link = successors.relative_spec(then.updater, folder)
    source = load(successors.locate([link], folder))
    values = convert(source, then.params)
    made = make(source, values)
    made.client = UserClient.over(prepared.rpc, prepared.target.client)
    query = plan_on(prepared.target, made, source)
    info = prepared.target.info
    params = {name: to_text(value) for name, value in values.items()}
    run_info = RunInfo.new(
        next_id(record.run_info.run_id), source, params, info,
        identity=record.run_info.identity, fingerprint=query.fingerprint(info), clock=clock,
    )  # fmt: skip
    return RunRecord(
        run_info,
        RunState.RUNNING,
        keep=record.keep,
        migration=replace(record.migration, marked=None) if record.migration else None,
        chain=Chain((*record.chain.links, link), query.identity(source.name, params)),
        warm=record.warm,
    )
