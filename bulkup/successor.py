"""The run that begins with the end of another: its record, and whether it is the same still."""

from __future__ import annotations

import os

from bulkup import chain
from bulkup.clock import Clock
from bulkup.errors import MismatchError
from bulkup.facts import RunState
from bulkup.jobs import Job, plan_on
from bulkup.loading import load, make
from bulkup.parameters import convert, to_text
from bulkup.state.ledger import Entry
from bulkup.state.records import RunRecord, next_id
from bulkup.wire.userclient import UserClient


def first_id(run_id: str) -> str:
    """The id of the first run of the chain that a run belongs to."""
    return run_id.partition("+")[0]


def same_work(job: Job, entry: Entry) -> None:
    """The successor that was recorded is the one that was loaded. Raises MismatchError."""
    if entry.work != job.query.identity(job.source.name, job.params):
        raise MismatchError(
            f"run {entry.record.run_id} follows with another query, class or parameters than "
            f"{job.source.path} has now: restore these, or begin anew (--new)"
        )


def begin(job: Job, entry: Entry, clock: Clock) -> Entry | None:
    """The record of the successor that an updater wants, whose run has the record `entry`."""
    then = chain.wanted(job.source, job.updater)
    if then is None:
        return None
    folder = os.path.dirname(job.source.path)
    link = chain.relative_spec(then.updater, folder)
    source = load(chain.locate([link], folder))
    values = convert(source, then.params)
    made = make(source, values)
    made.client = UserClient.over(job.wire, job.target.client)
    query = plan_on(job.target, made, source)
    info = job.target.info
    params = {name: to_text(value) for name, value in values.items()}
    record = RunRecord(
        run_id=next_id(entry.record.run_id),
        updater=source.name,
        description=source.description,
        spec=source.spec,
        source_path=source.path,
        checksum=source.checksum,
        params=params,
        target=info,
        fingerprint=query.fingerprint(info),
        identity=entry.record.identity,
        created=clock.now().isoformat(),
    )
    return Entry(
        record,
        RunState.RUNNING,
        keep=entry.keep,
        migration=entry.migration,
        code=entry.code,
        origin=entry.origin,
        chain=(*entry.chain, link),
        work=query.identity(source.name, params),
        warm=entry.warm,
    )
