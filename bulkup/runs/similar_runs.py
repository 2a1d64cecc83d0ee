"""Messages about unfinished runs when a run starts: about the one that is resumed, and others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from bulkup.core.events import Warned, WarningKind
from bulkup.core.records import RunInfo
from bulkup.core.visible import assignment
from bulkup.runs.prepare import PreparedRun
from bulkup.state.display import abandon_command, resume_command
from bulkup.state.record import RunRecord


def similar_runs(
    open_runs: Iterable[RunRecord], run_info: RunInfo, state_dir: Path
) -> list[Warned]:
    """Warnings about unfinished runs that the user may have meant: those that differ only in a
    parameter, the query, the file's name or the list of keys."""
    all_entities = "all entities of its list" if run_info.keys else "all entities"
    return [
        Warned(
            f"run {other.run_info.run_id} of {run_info.updater} is unfinished, with "
            f"{_difference(other.run_info, run_info)}; this is a new run, and handles "
            f"{all_entities}: continue the other one with "
            f"`{resume_command(other.run_info.run_id, state_dir)}`, or give it up with "
            f"`{abandon_command(other.run_info.run_id, state_dir)}`",
            WarningKind.SIMILAR_RUN,
        )
        for other in open_runs
        if other.run_info.identity != run_info.identity  # a run of this same work has just ended
    ]


def _difference(other: RunInfo, run_info: RunInfo) -> str:
    if other.keys == run_info.keys:
        return f"other parameters, query or file name ({_assignments(other.params)})"
    if not other.keys:
        return "its whole query and not a list of keys"
    if not run_info.keys:
        return "a list of keys and not its whole query"
    return "another list of keys"


def _assignments(params: Mapping[str, str]) -> str:
    return ", ".join(assignment(name, value) for name, value in params.items()) or "no parameters"


def resuming(record: RunRecord, prepared: PreparedRun) -> Warned:
    run_info, holder = record.run_info, record.lease.holder
    who = holder.who if holder else "unknown"
    message = (
        f"resuming run {run_info.run_id} of {run_info.updater}, started by {who} on "
        f"{run_info.created[:16].replace('T', ' ')} UTC (--new starts a new run)"
    )
    is_changed = not record.chain.links and run_info.checksum != prepared.source.checksum
    if is_changed and record.layout.shards:  # else every entity is done
        message += "; its source has changed, and the remaining entities get the new code"
    if record.gate is not None and record.gate.passed:
        message += "; its dry pass (--gate clean) was clean before it began, and is not repeated"
    return Warned(message, WarningKind.UNFINISHED_RUN)
