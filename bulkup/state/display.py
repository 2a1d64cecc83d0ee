"""How runs are spoken of."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from bulkup.core.model import RunState
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import RunLock

DEFAULT_STATE_DIR = Path(".bulkup")


def resume_command(run_id: str, state_dir: Path, words: Sequence[str] = ()) -> str:
    """What to type to go on with a run; `words`: options as they are typed."""
    words = ["bulkup", "resume", run_id, *words]
    if state_dir != DEFAULT_STATE_DIR:
        words += ["--state-dir", str(state_dir)]
    return shlex.join(words)


def state_text(checkpoint: Checkpoint) -> str:
    """The state of a run as people say it: one whose runner died is not running."""
    if checkpoint.state is RunState.RUNNING and not RunLock(checkpoint.folder).is_held():
        return "killed"
    return checkpoint.state.value
