"""`--until-clean`: a run is repeated until a pass finds nothing to write.

A query is read once, from beginning to end. What is created or changed behind the cursor in the
meantime is seen only by another pass. Each pass is a run of its own, and the successor of the one
before. So one commit ends a pass and begins the next, and any machine can resume.

If the server says when an entity was changed, each later pass skips entities that have not changed
since the pass before it began. The others include what the passes themselves have written. So the
updater must be one that may handle an entity again (`idempotent`), or it must say which entities
are done (`is_done`).
"""

from __future__ import annotations

from dataclasses import replace

from bulkup.authoring.acceptance import acceptance_of
from bulkup.core.errors import UsageError
from bulkup.core.model import Counts
from bulkup.core.records import RunInfo
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import PreparedRun
from bulkup.state.record import RunRecord

MAX_PASSES = 10
"""If each pass finds less than the one before, the work is done by then or never."""


def passes_of(context: RunContext, record: RunRecord) -> tuple[int, ...] | None:
    """How much each pass before this run has written; None if the run is not to be repeated."""
    passes = record.run_info.passes
    if passes is None and context.until_clean and not record.chain.links:
        return ()  # it was started without the option, and is resumed with it
    return passes


def as_pass(prepared: PreparedRun, run_info: RunInfo) -> PreparedRun:
    """The prepared run, with what it knows of the passes before it."""
    if not run_info.is_repeated:
        return prepared
    query = replace(prepared.query, is_repeated=True, since_ns=run_info.since_ns)
    return replace(prepared, query=query)


def why_not_clean(passes: tuple[int, ...] | None, counts: Counts) -> str:
    """Why no further pass follows although this one has written; empty if one follows or none is
    needed.

    `passes`: how much each pass before it has written.
    """
    if passes is None or not counts.writes:
        return ""
    written = ", ".join(f"{count:,}" for count in (*passes, counts.writes))
    if passes and counts.writes >= passes[-1]:
        return (
            "the passes of --until-clean have ended before one found nothing: they wrote "
            f"{written}, and each has to write less than the one before; either others change "
            "entities as fast, or the updater is not idempotent"
        )
    if len(passes) + 1 >= MAX_PASSES:
        return (
            f"the passes of --until-clean have ended before one found nothing: there are "
            f"{MAX_PASSES} at most, and they wrote {written}; repeat the command to continue"
        )
    return ""


def check_repeatable(prepared: PreparedRun) -> None:
    """Raises UsageError for an updater that may handle an entity only once."""
    updater, name = prepared.updater, prepared.source.name
    if updater.idempotent is not True and acceptance_of(updater, name) is None:
        raise UsageError(
            f"--until-clean handles entities again, and {name} does not say that this changes "
            "nothing: set idempotent = True in the class (or in @bulkup.updater) if it changes "
            "nothing, or add is_done, which leaves alone what is done"
        )
