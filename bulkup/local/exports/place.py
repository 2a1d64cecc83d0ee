"""Projects and databases, as exports name them."""

from __future__ import annotations

from typing import NamedTuple


class Database(NamedTuple):
    """A database of a project; the default one has an empty name."""

    project: str
    database: str = ""


def project_of(app: str) -> str:
    """The project in an app id, which begins with the letter of its region: `s~project`."""
    return app.rpartition("~")[2]
