"""Steers a run and prints the outcome: `bulkup pause`, `continue`, `cancel` and `tune`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli.options import TargetArgs, state_dir_words
from bulkup.core.errors import Exit
from bulkup.core.steering import NO_TUNING, Tuning, Verb

if TYPE_CHECKING:
    from bulkup.runs.steer import SteerResult


def steer_and_print(
    run: str,
    verb: Verb,
    target: TargetArgs,
    state_dir: Path,
    *,
    json: bool,
    tuning: Tuning = NO_TUNING,
) -> int:
    """Raises BulkupError."""
    from bulkup.report.json_lines import stdout_lines
    from bulkup.runs.steer import Change, steer

    result = steer(run, Change(verb, tuning), state_dir=state_dir, target=target.options())
    next_steps = _next_steps(result, state_dir_words(state_dir))
    if json:
        lines = stdout_lines()
        lines.run_id = result.run_id
        lines.write("steering", {**_fields(result), "next_steps": next_steps})
    else:
        for line in _lines(result, next_steps):
            click.echo(line)
    return Exit.DONE


def _next_steps(result: SteerResult, words: list[str]) -> list[str]:
    from bulkup.runs.steer import Outcome

    run = result.run_id
    if result.verb is Verb.PAUSE:
        steps = [["continue", run]]
    elif result.verb is Verb.CANCEL:
        steps = [["resume", run], ["abandon", run]]
    elif result.outcome is Outcome.NOBODY:
        steps = [["resume", run]]
    else:
        steps = []
    return [shlex.join(["bulkup", *step, *words]) for step in steps]


def _lines(result: SteerResult, next_steps: list[str]) -> Iterator[str]:
    from bulkup.report.steering_wording import how_steered
    from bulkup.report.text import clean

    run = f"{clean(result.run_id)} of {clean(result.updater)}"
    how = how_steered(
        result.verb, result.steering, changed=result.changed, outcome=result.outcome.value
    )
    yield f"Run {run} {how}."
    if next_steps:
        what = {Verb.PAUSE: "Continue it", Verb.CANCEL: "Continue it"}.get(
            result.verb, "Work on it"
        )
        line = f"{what}: {clean(next_steps[0])}"
        if result.verb is Verb.CANCEL:
            line += f"; give it up: {clean(next_steps[1])}"
        yield line


def _fields(result: SteerResult) -> dict[str, Any]:
    from bulkup.report.json_fields import steering_fields

    return {
        "updater": result.updater,
        "verb": result.verb.value,
        "changed": result.changed,
        "outcome": result.outcome.value,
        **steering_fields(result.steering),
    }
