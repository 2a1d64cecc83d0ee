"""What the report of `bulkup verify` says, in words."""

from __future__ import annotations

from collections.abc import Iterator

from bulkup.core.events import Report, RunState
from bulkup.core.verification import Verification
from bulkup.report.text import clean, duration, plural

_ENDINGS = {
    RunState.STOPPED: "Verification stopped at a limit",
    RunState.INTERRUPTED: "Verification interrupted",
}


def verified_headline(report: Report) -> str:
    """How the verification ended, in one line."""
    handled, failed = report.counts.handled, report.counts.failed
    took = f" ({duration(report.elapsed_s)})"
    if report.state is RunState.FAILED:
        return f"Verification failed: {clean(report.reason) or 'no reason was given'}"
    if report.state is not RunState.FINISHED:
        ending = _ENDINGS.get(report.state, "Verification not finished")
        return f"{ending}: {verified_counts(report)}{took}"
    if failed:
        verb = "is" if failed == 1 else "are"
        return f"Not clean: {failed:,} of {_entities(handled)} {verb} not done{took}"
    if not handled:
        return f"Verified: the query finds no entity{took}"
    return f"Verified: {_entities(handled)}, all done{took}"


def verified_counts(report: Report) -> str:
    """`34,006 entities read, 20 not done`."""
    return f"{_entities(report.counts.handled)} read, {report.counts.failed:,} not done"


def verified_sentences(report: Report) -> Iterator[str]:
    """What the reader must know beyond the headline."""
    verification, counts = report.verification, report.counts
    assert verification is not None
    if report.state is RunState.FAILED:
        yield f"So far: {verified_counts(report)}."
    elif report.state is not RunState.FINISHED:
        yield f"{clean(report.reason)[:1].upper()}{clean(report.reason)[1:]}."
        if verification.out:
            yield f"The same command continues from {clean(verification.out)}."
    yield "The verification wrote nothing, neither in Datastore nor in the run state."
    if verification.by_is_done:
        yield "An entity is done if the updater's is_done says so."
    else:
        yield "An entity is done if handling it again would change nothing."
        if verification.unsteady:
            yield (
                f"{verification.unsteady:,} of them got another result each time (random numbers, "
                "or the time), so they are never done by this measure: give the updater is_done."
            )
        elif counts.failed and counts.failed == counts.handled - counts.vanished:
            yield (
                "No entity is done. If the updater changes an entity each time (it adds or "
                "appends, say), this measure does not suit it: give it is_done."
            )
    if verification.filtered:
        yield (
            "The query has filters, and an entity that no longer matches them is not read: clean "
            "means that of those that still match none is left to do."
        )
    yield from _about_the_young(verification, counts.failed)


def _about_the_young(verification: Verification, failed: int) -> Iterator[str]:
    if verification.young:
        keys = ", ".join(clean(key) for key in verification.young_keys)
        more = verification.young - len(verification.young_keys)
        was = "entity was" if verification.young == 1 else "entities were"
        yield (
            f"{verification.young:,} {was} created after the verification began, and not done "
            f"({keys}{f' and {more:,} more' if more > 0 else ''}); not counted as not done. "
            "Something still writes the old form."
        )
    if failed and not verification.tells_births:
        yield (
            "This server does not say when an entity was created: those created meanwhile count, "
            "too."
        )


def verified_rows(report: Report) -> list[tuple[str, str | None]]:
    verification, counts = report.verification, report.counts
    assert verification is not None
    read = f"{counts.handled:,}"
    if report.total and report.state is not RunState.FINISHED:
        share = min(counts.handled / report.total, 1)
        read += f" of {report.total:,} ({int(share * 100)}%)"
    young, since = verification.young, verification.done_since
    return [
        ("Read", read),
        ("Not done", f"{counts.failed:,}"),
        ("Young", f"{young:,} (created meanwhile, and not done)" if young else None),
        ("Done since", f"{since:,} (not when first read, but a moment later)" if since else None),
        ("Vanished", _vanished(counts.vanished)),
        ("Retries", f"{plural(report.retries, 'call')} sent again" if report.retries else None),
        ("Keys", clean(verification.out) if verification.out else None),
    ]


def _vanished(count: int) -> str | None:
    return f"{count:,} (deleted or moved out of the query meanwhile)" if count else None


def _entities(count: int) -> str:
    return plural(count, "entity", "entities")
