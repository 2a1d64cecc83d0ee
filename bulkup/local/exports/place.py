"""Projects and databases, as exports name them."""

from __future__ import annotations

from typing import NamedTuple


class Database(NamedTuple):
    """A database of a project; the default one has an empty name."""

    project: str
    database: str = ""


def project_of(app: str) -> str:
    """The project of an app id, which has the letter of its region before it: `s~project`."""
    return app.rpartition("~")[2]
