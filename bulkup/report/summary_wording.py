"""The sentences of a summary: how a run ended, and what that means for the data.

A sentence here may promise only what the engine guarantees: every write exactly once, and all
writes of one entity or none.
"""

from __future__ import annotations

from collections.abc import Iterator

from bulkup.core.clock import rough_age
from bulkup.core.errors import Exit
from bulkup.core.events import AlreadyDone, NothingToRetry, RangesSeen, Report, RunState
from bulkup.report.namespace_grid import namespace_names
from bulkup.report.summary_rows import others, writes
from bulkup.report.text import clean, duration, plural, run_command
from bulkup.report.verification_wording import verified_headline, verified_sentences

SUBJECT_LIMIT = 180

_DRY_RUN_ENDINGS = {
    RunState.FINISHED: "Dry run",
    RunState.FAILED: "Dry run failed",
    RunState.STOPPED: "Dry run stopped at a limit",
    RunState.INTERRUPTED: "Dry run interrupted",
    RunState.RUNNING: "Dry run in progress",
    RunState.ABANDONED: "Dry run abandoned",
}

_GATE_ENDINGS = {
    RunState.FAILED: "Gate closed; nothing was written",
    RunState.STOPPED: "Stopped at a limit before the first write",
    RunState.INTERRUPTED: "Interrupted before the first write",
}
"""Endings of the dry pass before the first write (`--gate clean`)."""

_ENDINGS = {
    RunState.RUNNING: "Not finished: still running, or its process was killed",
    RunState.STOPPED: "Stopped at a limit; nothing is lost",
    RunState.INTERRUPTED: "Interrupted; nothing is lost",
    RunState.ABANDONED: "Abandoned; a new run replaced it",
}
_CANCELLED = "Cancelled; nothing is lost"


def headline_of(report: Report) -> str:
    """How the run ended, in one line."""
    if report.verification is not None:
        return verified_headline(report)
    ending = _ending(report)
    if _error_leads(report):
        return ending
    if report.state in (RunState.INTERRUPTED, RunState.STOPPED) and not report.dry_run:
        return f"{ending}."
    return f"{ending}: {_counts(report)}{_took(report)}"


def subject_of(report: Report) -> str:
    """Mail subject: updater and outcome."""
    outcome = headline_of(report) if report.verification is not None else _ending(report)
    if report.verification is None and not _error_leads(report):
        outcome += f": {_counts(report)}"
    return clean(f"bulkup: {report.updater}: {outcome}", SUBJECT_LIMIT)


def sentences_of(report: Report) -> Iterator[str]:
    """What the reader must know beyond the headline."""
    if report.verification is not None:
        yield from verified_sentences(report)
        return
    stopped = report.state in (RunState.INTERRUPTED, RunState.STOPPED) and not report.dry_run
    if stopped or _error_leads(report):
        yield f"So far: {_counts(report)}{_took(report)}."
    # The headline says why a run failed, and the failures are listed.
    said = _error_leads(report) or _is_over_budget(report)
    if report.reason and report.state is not RunState.FINISHED and not said:
        reason = clean(report.reason)
        yield reason[0].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else ".")
    if report.ranges is not None:
        yield from _of_ranges(report, report.ranges)
    if report.dry_run:
        yield "Neither Datastore nor the run state was touched."
        if report.gate is not None:
            yield "Fix the cause, then repeat the command."
    else:
        yield from _meaning(report)
    if report.appeared:
        yield (
            f"Namespaces that appeared during the run and were not processed: "
            f"{namespace_names(report.appeared)} (run each with --namespace NAME)."
        )


def _of_ranges(report: Report, seen: RangesSeen) -> Iterator[str]:
    """What this machine does not know about a run in ranges, which others may work on."""
    if not report.alive or not seen.total:
        yield (
            "The run is in ranges, and others may work on it: `bulkup list --all`, with its "
            "target, says how far it is now."
        )
    named = sum(group.count for group in report.failure_groups) + report.other_failures
    if report.counts.failed > named + report.retried:
        yield "Failures are named here when a process of this machine has ended."


def changes_sentence(changes: int, shown: int) -> str:
    """How many of a dry run's changes the reader has seen."""
    hidden = changes - shown
    if not hidden:
        if changes == 1:
            return "The only change is shown above."
        return f"All {plural(changes, 'change')} are shown above."
    if not shown:
        return f"{plural(hidden, 'change')} not shown (-v or --json shows all)."
    return (
        f"The first {plural(shown, 'change')} are shown above, {hidden:,} more are not "
        "(-v or --json shows all)."
    )


def is_resumable(report: Report) -> bool:
    return (
        bool(report.next_command) and not report.dry_run and report.state is not RunState.FINISHED
    )


def _is_over_budget(report: Report) -> bool:
    budget = report.max_failures
    if report.over_budget is not None:
        return report.over_budget and report.state is RunState.FAILED
    return (
        report.state is RunState.FAILED
        and not report.only_end_left
        and budget is not None
        and 0 <= budget < report.counts.failed
    )


def _error_leads(report: Report) -> bool:
    """Whether an error ended the run, so that the error is the headline."""
    return report.state is RunState.FAILED and not report.dry_run and not _is_over_budget(report)


def _ending(report: Report) -> str:
    failed, state = report.counts.failed, report.state
    if report.dry_run and report.gate is not None and state in _GATE_ENDINGS:
        return _GATE_ENDINGS[state]
    if report.dry_run:
        ending = _DRY_RUN_ENDINGS[state]
        if state is RunState.FAILED and failed:
            ending = "Dry run stopped by failures"
        return f"{ending}; nothing was written"
    if state is RunState.FINISHED:
        if not failed:
            return "Finished"
        return f"Finished, but {plural(failed, 'entity', 'entities')} failed"
    if state is RunState.RUNNING and report.alive is not None:
        if report.ranges is not None and not report.alive:
            return "No process of this machine works on it"
        return "Still running" if report.alive else "Killed"
    if _drifts(report):
        return "Stopped: the run drifts from its plan; nothing is lost"
    if state is not RunState.FAILED:
        return _CANCELLED if report.exit_code is Exit.CANCELLED else _ENDINGS[state]
    if not _is_over_budget(report):
        return f"Failed: {clean(report.reason) or 'no reason was given'}"
    if failed == 1:
        return "Stopped at the first failure"
    return f"Stopped after {plural(failed, 'failure')} ({report.max_failures or 0:,} allowed)"


def _drifts(report: Report) -> bool:
    """Whether the run was stopped because it drifted from its plan."""
    return report.state is RunState.STOPPED and report.plan is not None and bool(report.plan.drift)


def _counts(report: Report) -> str:
    """`34,006 entities handled, 34,006 written, 0 failed`."""
    counts, dry_run = report.counts.reconciled(), report.dry_run
    parts = [
        f"{plural(counts.handled, 'entity', 'entities')} handled",
        writes(counts.written, counts.deleted, dry_run=dry_run),
        f"{counts.failed:,} failed",
    ]
    besides = others(counts, dry_run=dry_run)
    return ", ".join([*parts, besides] if besides else parts)


def _took(report: Report) -> str:
    """How long the run took; for a resumed run, the time since the last resume."""
    if report.state is RunState.RUNNING and report.alive is not None:
        return ""  # not recorded yet
    took = duration(report.elapsed_s)
    return f" in {took}" if report.runners <= 1 else f" ({took} since the last resume)"


def _meaning(report: Report) -> Iterator[str]:
    """What the ending means for the data."""
    failed, is_finished = report.counts.failed, report.state is RunState.FINISHED
    if failed and report.state is not RunState.RUNNING:
        whose = "the entity that failed" if failed == 1 else f"the {failed:,} that failed"
        rest = "; every other entity is done" if is_finished else ""
        yield f"Nothing was written for {whose}{rest}."
        if report.retried:
            which = "it" if failed == 1 else f"{report.retried:,} of them"
            yield f"Since then, `bulkup retry` has handled {which}."
    if is_finished and report.total is not None and report.total != report.counts.handled:
        yield (
            f"The initial count was {report.total:,}. Counts are estimates; the query itself was "
            "read to the end."
        )
    if is_resumable(report):
        if report.state is RunState.RUNNING and not report.alive:
            if report.ranges is not None:
                yield "Whatever has become of its processes, nothing is lost."
            elif report.alive is None:
                yield "If its process was killed, nothing is lost."
            else:
                yield "Its process was killed; nothing is lost."
        if report.only_end_left:
            yield (
                "Resuming handles no entity again; it repeats the updater's last steps "
                "(check_after, finish) and ends the run."
            )
        elif report.not_done:
            yield _not_done(report)
        elif _drifts(report):
            yield (
                "The batch that went too far was not written. To go on although the run drifts, "
                "resume with a larger --max-drift; otherwise give the run up (bulkup abandon) and "
                "plan again."
            )
        elif _is_over_budget(report):
            yield (
                "Fix the cause, then resume. Resuming retries the entity that stopped the run, "
                "continues with the entities that are left, and writes nothing twice. To go on "
                "although entities fail, resume with --max-failures N (-1: no limit)."
            )
        else:
            yield "Resuming continues with the entities that are left, and writes nothing twice."
        yield from _kept_failures(report)
    elif is_finished and failed and report.spaces:
        yield "Once it is fixed, retry the run of each namespace (`bulkup retry RUN`)."


def _kept_failures(report: Report) -> Iterator[str]:
    """Say that resuming does not repeat what failed within the budget."""
    is_over = _is_over_budget(report)
    failed = report.counts.failed - (1 if is_over else 0)  # one has stopped the run
    if failed <= 0 or report.spaces:
        return
    retry = run_command("retry", report.run_id, report.state_file)
    if report.not_done:
        yield f"Failures that stay are handled again by `{retry}`, once the run has finished."
        return
    other = "other " if is_over else ""
    those = f"The {other}entity" if failed == 1 else f"The {other}{failed:,} entities"
    it, stays = ("it", "stays") if failed == 1 else ("them", "stay")
    yield (
        f"{those} that failed {stays} failed; once the run has finished, `{retry}` handles {it} "
        "again."
    )


def _not_done(report: Report) -> str:
    handled, not_done = report.counts.handled, report.not_done
    if not_done >= handled:
        which = "The entity that was handled does not count as done"
        if handled > 1:
            which = f"None of the {handled:,} entities that were handled counts as done"
    else:
        verb = "does" if not_done == 1 else "do"
        which = (
            f"{not_done:,} of the {handled:,} entities that were handled {verb} not count as done"
        )
    again = "it" if not_done == 1 else "them"
    rest = ""
    if report.total is None or handled < report.total:
        rest = ", continues with the entities that are left,"
    return f"{which}: after the fix, resuming handles {again} again{rest} and writes nothing twice."


def already_done(event: AlreadyDone) -> str:
    """`already done as RUN, ...`, to follow the name of the updater."""
    counts, ago = event.counts, rough_age(event.ago_s)
    who = f" by {clean(event.who)}" if event.who else ""
    failed = f", {counts.failed:,} of them failed" if counts.failed else ""
    return (
        f"already done as {clean(event.run_id)}, {ago} ago{who} "
        f"({plural(counts.handled, 'entity', 'entities')}{failed}); --new does it again"
    )


def nothing_to_retry(event: NothingToRetry) -> str:
    """`Run RUN has no failed entity to retry.`"""
    which = "that can be named" if event.unnamed else "to retry"
    return f"Run {clean(event.run_id)} of {clean(event.updater)} has no failed entity {which}."
