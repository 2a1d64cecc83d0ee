"""The steering of a run when a new runner takes it over."""

from __future__ import annotations

from pathlib import Path

from bulkup.core.steering import Steering, Verb, newest
from bulkup.runs.context import RunContext
from bulkup.state.holder import this_process
from bulkup.state.record import RunRecord
from bulkup.state.steering import read_steering


def steering_of_runner(context: RunContext, folder: Path, latest: RunRecord) -> Steering:
    """The steering of a run from when this process takes it over.

    A paused run stays paused. Its tuning stays, except where this command's options replace it. A
    cancel is lifted, unless it came while this command waited for the run.
    """
    carried, by, now = context.carried, this_process().who, context.clock.unix()
    found = newest(carried.steering, read_steering(folder), latest.steering)
    before = carried.before_wait
    if found.is_cancelled and (before is None or found.number <= before.number):
        found = found.after(Verb.RESUME, by=by, at=now) or found
    return found.retuned(found.tuning.without(context.typed_options), by=by, at=now)
