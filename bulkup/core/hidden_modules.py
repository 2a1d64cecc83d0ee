"""Finds a user's file that hides an installed module, such as an `attr.py` beside the updater.

bulkup imports libraries only when it needs them, and some of them import others only then.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import Distribution, distributions


def hiding_file() -> str:
    """A sentence about an imported file that hides what is installed under its name; empty if there
    is none. It searches everything that is installed, so call it only after an error."""
    for distribution in distributions():
        for name in _modules_of(distribution):
            path = getattr(sys.modules.get(name), "__file__", None)
            if not isinstance(path, str):
                continue
            installed = os.path.realpath(str(distribution.locate_file(name)))
            place = os.path.realpath(path)
            if place not in (f"{installed}.py", os.path.join(installed, "__init__.py")):
                return f"{path!r} hides the installed module {name}: rename that file"
    return ""


def _modules_of(distribution: Distribution) -> set[str]:
    """The imported modules that a distribution installs as Python files. An editable installation
    has its files elsewhere, so none are found for it."""
    names = set()
    for file in distribution.files or ():
        first = file.parts[0]
        if len(file.parts) == 2 and file.parts[1] == "__init__.py":
            names.add(first)
        elif len(file.parts) == 1 and first.endswith(".py"):
            names.add(first[: -len(".py")])
    return {name for name in names if name in sys.modules}
