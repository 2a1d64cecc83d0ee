"""The outcome of steering a run, in words: for the terminal and for the page of a run."""

from __future__ import annotations

from bulkup.core.steering import Steering, Verb
from bulkup.report.text import clean

ASKED, NOBODY = "asked", "nobody"
"""Values of `runs.steer.Outcome`: no process has answered yet; no process works on the run."""


def how_steered(verb: Verb, steering: Steering, *, changed: bool, outcome: str) -> str:
    """What was done, to follow `Run ID of NAME`. `steering`: as it is now; `changed`: by this
    call."""
    by = f" (by {clean(steering.by)})" if not changed and steering.by else ""
    if outcome == ASKED:
        asked = f"have {steering.tuning}" if verb is Verb.TUNE else verb.value
        return (
            f"is asked to {asked}; its process has not answered yet (a slow handler, or a slow "
            "network)"
        )
    if outcome == NOBODY and verb is Verb.CANCEL:
        return "is not worked on, so there is nothing to stop"
    if outcome == NOBODY and verb is Verb.CONTINUE:
        done = "is not paused any more" if changed else "is not paused"
    elif verb is Verb.TUNE:
        done = f"has {steering.tuning}" if changed else f"had {steering.tuning} before{by}"
    else:
        done = {
            Verb.PAUSE: f"is{'' if changed else ' already'} paused{by}",
            Verb.CONTINUE: f"works {'again' if changed else 'already'}",
            Verb.CANCEL: f"is{'' if changed else ' already'} cancelled{by}",
        }[verb]
    return f"{done}, and nobody works on it" if outcome == NOBODY else done
