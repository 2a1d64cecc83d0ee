"""Pause, continue, cancel and tune a run, for the buttons on its page."""

from __future__ import annotations

from collections.abc import Mapping

from bulkup.core.errors import NotFoundError, UsageError
from bulkup.core.steering import Tuning, Verb, checked
from bulkup.report.steering_wording import how_steered
from bulkup.runs.steer import Change, steer
from bulkup.web.board import Board

BY_NAME = {verb.value: verb for verb in (Verb.PAUSE, Verb.CONTINUE, Verb.CANCEL, Verb.TUNE)}
WAIT_S = 5.0
"""How long to wait for the run's process to do it."""


def steer_run(board: Board, run_id: str, verb: str, form: Mapping[str, str]) -> str:
    """Steer a run, and return the outcome as a sentence.

    Raises NotFoundError, UsageError, StateError, TargetError.
    """
    if verb not in BY_NAME or (board.folder_of(run_id) is None and board.target is None):
        raise NotFoundError(f"There is no run {run_id!r:.100} here.")
    asked = BY_NAME[verb]
    tuning = _tuning(form) if asked is Verb.TUNE else Tuning()
    if asked is Verb.TUNE and not tuning:
        raise UsageError("Nothing to tune: fill in at least one field.")
    result = steer(
        run_id, Change(asked, tuning), state_dir=board.state_dir, target=board.target, wait_s=WAIT_S
    )
    board.steered()
    how = how_steered(
        result.verb, result.steering, changed=result.changed, outcome=result.outcome.value
    )
    return f"The run {how}."


def _tuning(form: Mapping[str, str]) -> Tuning:
    """The settings in the form. Empty fields change nothing."""
    rate = form.get("max_rate", "").strip()
    return checked(Tuning(rate or None, _number(form, "in_flight"), _number(form, "batch_size")))


def _number(form: Mapping[str, str], name: str) -> int | None:
    typed = form.get(name, "").strip()
    if not typed:
        return None
    if not (typed.isascii() and typed.isdigit() and len(typed) < 10):
        raise UsageError(f"{name} is {typed!r:.50}; it must be a whole number.")
    return int(typed)
