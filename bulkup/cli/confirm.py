"""Ask before real data is changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bulkup.datastore.target import Target


def confirm(action: str, target: Target, *, yes: bool) -> None:
    """Ask on a terminal, unless `yes`. Raises click.Abort when the answer is no.

    Without a terminal nobody could answer: a scheduled job starts at once.
    """
    if yes or not target.info.is_real or not sys.stdin.isatty():
        return
    from bulkup.report.text import clean

    click.confirm(clean(f"{action} on {target.info}?"), abort=True, err=True)
