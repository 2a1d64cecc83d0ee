"""How a run's state and its resume command are shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from bulkup.core.model import RunState
from bulkup.core.records import RunInfo
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock

KILLED = "killed"
"""The state shown for a run that is recorded as running but has no living runner."""

DEFAULT_STATE_DIR = Path(".bulkup")


def resume_command(run_id: str, state_dir: Path, words: Sequence[str] = ()) -> str:
    """The command that resumes a run. `words`: options as they are typed."""
    words = ["bulkup", "resume", run_id, *words]
    if state_dir != DEFAULT_STATE_DIR:
        words += ["--state-dir", str(state_dir)]
    return shlex.join(words)


def command_on(verb: str, run_id: str, state_dir: Path) -> str:
    """`bulkup VERB RUN` for a run in this state directory."""
    words = ["bulkup", verb, run_id]
    if state_dir != DEFAULT_STATE_DIR:
        words += ["--state-dir", str(state_dir)]
    return shlex.join(words)


def abandon_command(run_id: str, state_dir: Path) -> str:
    """The command that gives up an unfinished run."""
    return command_on("abandon", run_id, state_dir)


def continue_command(run_id: str, state_dir: Path) -> str:
    """The command that continues a paused run."""
    return command_on("continue", run_id, state_dir)


def retry_command(run_info: RunInfo, state_dir: Path, words: Sequence[str] = ()) -> str:
    """The command that handles a run's failed entities again. `words`: options as they are typed.

    The entities that fail in a retry are in the list of the run that it retries, so the command
    names that run. The entities that an undo leaves alone are only put back with `--force`.
    """
    first, undone = run_info.retry_of, undoes(run_info)
    is_here = first and (state_dir / first / CHECKPOINT_NAME).exists()
    command = ["bulkup", "retry", first if is_here else run_info.run_id]
    if undone is not None:
        command = ["bulkup", "undo", undone, "--force"]
    words = [*command, *words]
    if state_dir != DEFAULT_STATE_DIR:
        words += ["--state-dir", str(state_dir)]
    return shlex.join(words)


UNDO = "bulkup/runs/undo.py:Undo"
"""How the spec of a run that undoes another one ends."""


def undoes(run_info: RunInfo) -> str | None:
    """The id of the run that this one undoes; None: this run is not an undo."""
    return run_info.params.get("run") if run_info.spec.endswith(UNDO) else None


def state_text(checkpoint: Checkpoint) -> str:
    """The state of a run for people: a run whose runner has died is shown as killed."""
    return KILLED if is_alive(checkpoint) is False else checkpoint.status().state.value


def is_alive(checkpoint: Checkpoint) -> bool | None:
    """Whether a process of this machine is working on the run; None: the run has ended."""
    if checkpoint.status().state is not RunState.RUNNING:
        return None
    return RunLock(checkpoint.folder).is_held()
