"""Ask before real data is changed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bulkup.core.events import AlreadyDone
    from bulkup.datastore.target import Target


def confirm_again(done: AlreadyDone, *, yes: bool) -> bool:
    """Ask on a terminal whether to do again what a run has done. False: nobody was asked.

    Raises click.Abort when the answer is no, and after Ctrl-C.
    """
    if yes or not sys.stdin.isatty():
        return False
    from bulkup.core.clock import rough_age
    from bulkup.report.text import clean

    source = "" if done.same_source else ", with other source code,"
    with _default_sigint():
        click.confirm(
            clean(
                f"Run {done.run_id} finished the same work{source} {rough_age(done.ago_s)} ago. "
                "Do it again?"
            ),
            abort=True,
            err=True,
        )
    return True


@contextmanager
def _default_sigint() -> Iterator[None]:
    """While somebody is asked, Ctrl-C is an answer, and not a request to stop after the answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def confirm(action: str, target: Target, *, yes: bool) -> None:
    """Ask on a terminal, unless `yes`. Raises click.Abort when the answer is no.

    Without a terminal nobody could answer: a scheduled job starts at once.
    """
    if yes or not target.info.is_real or not sys.stdin.isatty():
        return
    from bulkup.report.text import clean

    click.confirm(clean(f"{action} on {target.info}?"), abort=True, err=True)
