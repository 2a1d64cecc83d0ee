"""The answers of a rehearsal about one work: whether it finishes, what it changes, whether it is
safe to run twice and to crash, what it costs, how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulkup.core.model import RunState
from bulkup.core.plan import Forecast
from bulkup.core.rehearsal import Effect, RehearsedRun, RehearsedWork, failed_of
from bulkup.report.plan_summary import money
from bulkup.report.summary_model import Tone
from bulkup.report.text import clean, duration, per_second, plural


@dataclass(frozen=True)
class Answer:
    """The answer to one of the reader's questions."""

    tone: Tone | None
    """None: a fact, neither good nor bad."""
    name: str
    text: str


def answers_of(work: RehearsedWork) -> Iterator[Answer]:
    yield _outcome(work)
    if not work.runs:
        return
    yield Answer(None, "Changes", _effect_text(work.effect))
    yield _twice(work)
    yield _crashes(work)
    yield from _checks(work)
    if work.bill is not None:
        cost = money(work.bill.total[0], work.bill.currency)
        operations = ", ".join(
            f"{line.count.count:,} {line.operation}" for line in work.bill.lines if line.count.count
        )
        so_far = "" if work.finished else " until then"
        yield Answer(None, "Cost", f"{cost}{so_far} at list prices: {operations or 'nothing'}.")
    if work.forecast is not None:
        yield Answer(None, "Duration", _forecast(work.forecast, work.runs))


def _outcome(work: RehearsedWork) -> Answer:
    name = "Outcome"
    if work.error:
        return Answer(Tone.BAD, name, f"Fails: {clean(work.error)}")
    for run in work.runs:
        if run.state is not RunState.FINISHED:
            who = f"{clean(run.updater)} " if len(work.runs) > 1 else ""
            reason = clean(run.reason.rstrip(".")) or str(run.state)
            return Answer(
                Tone.BAD,
                name,
                f"Does not finish: {who}{reason}, after {run.counts.handled:,} entities.",
            )
    handled, failed = work.counts.handled, work.counts.failed
    if work.found_nothing:
        nothing = "Finishes, but the query finds no entities, so nothing was rehearsed"
        if work.may_be_empty:
            return Answer(Tone.MIXED, name, f"{nothing}.")
        return Answer(Tone.BAD, name, f"{nothing}; add --allow-empty if this is expected.")
    if not handled:
        done = next((clean(run.reason) for run in work.runs if run.reason), "")
        nothing = f"Does nothing: {done}." if done else "Finishes, but the query finds no entities."
        return Answer(Tone.MIXED, name, nothing)
    if failed:
        return Answer(
            Tone.MIXED,
            name,
            f"Finishes: {failed:,} of {plural(handled, 'entity fails', 'entities fail')}, within "
            "the failure budget.",
        )
    return Answer(Tone.GOOD, name, f"Finishes: {_all(handled)} handled, none fails.")


def _all(count: int) -> str:
    return "1 entity is" if count == 1 else f"all {count:,} entities are"


def _effect_text(effect: Effect) -> str:
    parts = [
        plural(count, f"entity {what}", f"entities {what}")
        for count, what in (
            (effect.changed, "changed"),
            (effect.created, "created"),
            (effect.deleted, "deleted"),
        )
        if count
    ]
    return f"{', '.join(parts)}." if parts else "None: every entity is as it was before."


def _twice(work: RehearsedWork) -> Answer:
    name, second = "Safe to run twice", work.second
    if second is None:
        why = "nothing was handled" if work.found_nothing else "there was no second run"
        return Answer(Tone.MIXED, name, f"Not known: {why}.")
    said = ", although the updater says `idempotent = True`" if work.claims_idempotent else ""
    bad = Tone.BAD if work.claims_idempotent else Tone.MIXED
    if second.error:
        return Answer(bad, name, f"No: a second run fails{said}: {clean(second.error)}")
    for run in second.runs:
        if run.state is not RunState.FINISHED:
            return Answer(bad, name, f"No: a second run does not finish{said}: {clean(run.reason)}")
    if second.effect.differs:
        names = list(dict.fromkeys(f"{p.kind}.{p.name}" for p in second.effect.properties))
        which = f" ({', '.join(map(clean, names[:5]))}{', …' if len(names) > 5 else ''})"
        return Answer(
            bad,
            name,
            f"No: after a second run {_effect_text(second.effect).rstrip('.')}"
            f"{which if names else ''}{said}. One run handles each entity once, also if it is "
            "killed and resumed.",
        )
    failed, before = failed_of(second.runs), failed_of(work.runs)
    if failed > before:
        return Answer(bad, name, f"No: {failed:,} entities fail in a second run, not {before:,}.")
    handled = sum(run.counts.handled for run in second.runs)
    written = sum(run.counts.writes for run in second.runs)
    again = f", though it writes {written:,} entities as they are" if written else ""
    if not handled:
        return Answer(Tone.GOOD, name, "Yes: a second run finds nothing to do.")
    return Answer(
        Tone.GOOD,
        name,
        f"Yes: a second run handles {plural(handled, 'entity', 'entities')} and changes "
        f"nothing{again}.",
    )


def _crashes(work: RehearsedWork) -> Answer:
    name, crash = "Safe if it crashes", work.crash
    if crash is None:
        why = "nothing was handled" if work.found_nothing else "there was no crash pass"
        return Answer(Tone.MIXED, name, f"Not known: {why}.")
    killed = f"killed {_times(len(crash.kills))} (SIGKILL) and resumed"
    if not crash.kills:
        killed = "run once more"
    if crash.is_same:
        varying = ""
        if crash.varying:
            names = ", ".join(map(clean, crash.varying[:5]))
            more = ", …" if len(crash.varying) > 5 else ""
            varying = f" Not compared, since each run gives other values: {names}{more}."
        writes = work.counts.writes
        where = ""
        if writes and not crash.was_killed_between(writes):
            where = " No kill came between two of its writes: they are in too few commits for that."
        return Answer(
            Tone.GOOD,
            name,
            f"Yes: {killed}, it ends with the same data and the same counts as without.{where}"
            f"{varying}",
        )
    if crash.unlike:
        return Answer(Tone.BAD, name, f"No: {killed}, it ends differently: {clean(crash.unlike)}.")
    parts = list(map(clean, crash.counts_differ))
    if crash.effect.differs:
        parts.append(_effect_text(crash.effect).rstrip("."))
    if crash.not_compared:
        parts.append(f"{crash.not_compared:,} more differ and were not compared")
    return Answer(
        Tone.BAD, name, f"No: {killed}, it ends with other data than without: {'; '.join(parts)}."
    )


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"


def _checks(work: RehearsedWork) -> Iterator[Answer]:
    for name in ("check_before", "check_after"):
        if any(getattr(run, name) for run in work.runs) and work.finished:
            yield Answer(Tone.GOOD, name, "Holds.")


def _forecast(forecast: Forecast, runs: Sequence[RehearsedRun]) -> str:
    here = sum(run.elapsed_s for run in runs)
    measured = f"It took {duration(here)} here ({per_second(forecast.speed)})."
    if forecast.limited_by == "ramp-up":
        return (
            f"At least {duration(forecast.seconds)} on a real project, by Datastore's ramp-up. "
            f"{measured}"
        )
    return (
        f"About {duration(forecast.seconds)} on a real project, if that is as fast as the copy, "
        f"and at least {duration(forecast.ramp_s)}, by Datastore's ramp-up. {measured}"
    )
