"""The report as files in the run's folder."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from bulkup.core.run_facts import RunFacts
from bulkup.core.user_traceback import error_line
from bulkup.report.page.render import render_page
from bulkup.report.printer import Delivery
from bulkup.report.summary_model import Summary
from bulkup.report.summary_text import summary_text
from bulkup.report.text import clean

PAGE_NAME = "report.html"

MOST_MAILED_BYTES = 2_000_000
"""Largest page to mail. Encoded it is a third larger, and mail servers begin to refuse at 10 MB."""

_NOT_MAILED = "Values of entities are not mailed; the page in the run's folder has them."


def save_report(
    summary: Summary, facts: RunFacts, folder: Path, shown: Path | None = None
) -> Delivery:
    """Write report.txt and report.html into `folder` (made if missing, 0700), each 0600.

    `shown`: the folder as the user gave it.

    An older report there is replaced atomically. A disk error raises nothing: the returned message
    says what went wrong. Not for dry runs, which promise to write nothing.
    """
    shown = shown or folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder / "report.txt", summary_text(summary))
    except OSError as error:
        why = error.strerror or str(error)
        return Delivery("file", False, clean(f"The report could not be saved in {shown}: {why}."))
    if why := save_page(facts, folder):
        return Delivery("file", False, clean(f"{shown / PAGE_NAME} could not be written: {why}."))
    return Delivery("file", True, clean(f"Report saved: {shown / 'report.txt'}"))


def save_page(facts: RunFacts, folder: Path) -> str:
    """Write report.html into a run's folder; returns why it could not be written, or an empty
    string.

    Raises nothing: the run is over, and its page must not change how it ended.
    """
    try:
        replace_file(folder / PAGE_NAME, render_page(facts))
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # a bug, and reported as one
        return f"bulkup has a bug, {error_line(error)}"
    return ""


def page_to_mail(facts: RunFacts) -> bytes | None:
    """The page without values of entities; None if it is too large for a mail, or cannot be made
    (`save_page` reports that)."""
    note = _NOT_MAILED if facts.changes else facts.changes_note
    try:
        page = render_page(replace(facts, changes=(), changes_note=note))
    except Exception:
        return None
    raw = page.encode("utf-8", errors="backslashreplace")
    return raw if len(raw) <= MOST_MAILED_BYTES else None


def replace_file(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically. Raises OSError."""
    # mkstemp makes a new file of mode 0600: no existing link is followed, no umask widens the mode.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, 0o600)  # an updater's umask may have taken bits away
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
