"""Ask before real data is changed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bulkup.cli.named_target import to_confirm
from bulkup.core.errors import UsageError
from bulkup.core.model import TargetInfo

if TYPE_CHECKING:
    from bulkup.core.events import AlreadyDone
    from bulkup.datastore.target import Target


def confirm_again(done: AlreadyDone, *, yes: bool) -> bool:
    """Ask on a terminal whether to repeat what a run has done. Returns False if nobody was asked.

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
    """While the user is being asked, Ctrl-C is an answer, not a request to stop the run later."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def confirm(action: str, target: Target | TargetInfo, *, yes: bool) -> None:
    """Ask on a terminal, unless `yes`. Raises click.Abort when the answer is no.

    Without a terminal nobody could answer, so a scheduled job starts at once. But a target with
    `confirm = true` always needs confirmation, and without a terminal it raises UsageError unless
    `--yes` is given. That must be typed or be in the environment: a configuration file that says
    both would confirm nothing.
    """
    from bulkup.report.text import clean

    info = target if isinstance(target, TargetInfo) else target.info
    named = to_confirm(info)
    if named is not None:
        ctx = click.get_current_context()
        if yes and ctx.get_parameter_source("yes") is not click.core.ParameterSource.DEFAULT_MAP:
            return
        if not sys.stdin.isatty():
            raise UsageError(
                f"target {named.name} ({info}) asks for confirmation, and this is not a "
                "terminal; confirm with --yes"
            )
    elif yes or not info.is_real or not sys.stdin.isatty():
        return
    name = f" target {named.name}," if named is not None else ""
    click.confirm(clean(f"{action} on{name} {info}?"), abort=True, err=True)
