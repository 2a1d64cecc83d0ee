"""`--until-clean`: a run is repeated until a pass finds nothing to write.

A query is read once from its beginning to its end. What is created or changed behind the cursor
meanwhile is not seen, unless another pass comes by. Each pass is a run of its own, and the
successor of the one before: so one commit ends a pass and begins the next, and any machine can
resume.

A pass after the first one leaves out what was not changed since the pass before it began, where the
server says when an entity was changed. What is left includes what the passes themselves have
written, so an updater must be one that may handle an entity again (`idempotent`), or say which are
done (`is_done`).
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
"""Where each pass finds less than the one before, it is done by then or never."""


def passes_of(context: RunContext, record: RunRecord) -> tuple[int, ...] | None:
    """What the passes before a run have written; None: it is not to be repeated."""
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
    """Why no further pass follows one that has written; empty: one follows, or none need.

    `passes`: what those before it have written.
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
    """Raises UsageError for an updater that may handle an entity once only."""
    updater, name = prepared.updater, prepared.source.name
    if updater.idempotent is not True and acceptance_of(updater, name) is None:
        raise UsageError(
            f"--until-clean handles entities again, and {name} does not say that this changes "
            "nothing: set idempotent = True in the class (or in @bulkup.updater) if it changes "
            "nothing, or add is_done, which leaves alone what is done"
        )
