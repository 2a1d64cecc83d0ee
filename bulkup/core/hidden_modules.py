"""A file of the user's that hides an installed module: an `attr.py` beside the updater.

Libraries that bulkup needs are imported when they are needed, and some of them need others then.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import Distribution, distributions


def hiding_file() -> str:
    """A sentence about an imported file that is another one than what is installed under its name;
    empty: there is none. Looks at everything that is installed, so only after an error."""
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
    """The modules in Python that are installed with it. One that is installed to be edited has its
    files elsewhere, and none is found."""
    names = set()
    for file in distribution.files or ():
        first = file.parts[0]
        if len(file.parts) == 2 and file.parts[1] == "__init__.py":
            names.add(first)
        elif len(file.parts) == 1 and first.endswith(".py"):
            names.add(first[: -len(".py")])
    return {name for name in names if name in sys.modules}
