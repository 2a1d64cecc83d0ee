"""The report as files in the run's folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bulkup.report.html import summary_html
from bulkup.report.printer import Delivery
from bulkup.report.summary_model import Summary
from bulkup.report.summary_text import summary_text
from bulkup.report.text import clean


def save_report(summary: Summary, folder: Path, shown: Path | None = None) -> Delivery:
    """Write report.txt and report.html into `folder` (made if missing, 0700), each 0600.

    `shown`: the folder as the user gave it.

    An older report there is replaced atomically. A disk that fails raises nothing: the returned
    message says what went wrong. Not for dry runs, which promise to write nothing.
    """
    shown = shown or folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder / "report.txt", summary_text(summary))
        replace_file(folder / "report.html", summary_html(summary))
    except OSError as error:
        why = error.strerror or str(error)
        return Delivery("file", False, clean(f"The report could not be saved in {shown}: {why}."))
    return Delivery("file", True, clean(f"Report saved: {shown / 'report.txt'}"))


def replace_file(path: Path, text: str) -> None:
    """Write a file of mode 0600, at once and whole. Raises OSError."""
    # mkstemp makes a new file of mode 0600, so neither a link lying there nor a umask widens it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, 0o600)  # an updater's umask may have taken bits away
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
