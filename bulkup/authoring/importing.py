"""Importing a user's file or module: the only place where their top-level code runs.

A file is loaded by its path, under a private name. So an updater may be called `json.py` or
`click.py` without hiding the module of that name or being hidden by it. The private name is in
`sys.modules`, because dataclasses, typing and pickle look there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import os
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from bulkup.authoring.built_ins import BUILT_INS
from bulkup.authoring.source_files import listed, printable, read_source, suggest
from bulkup.authoring.updater_names import specs_of
from bulkup.core.errors import NotFoundError, UpdaterError, UsageError
from bulkup.core.hidden_modules import hiding_file
from bulkup.core.similar import similar_names
from bulkup.core.user_traceback import error_line, user_traceback


@dataclass(frozen=True)
class Imported:
    module: ModuleType
    path: str
    """Absolute path of the source file."""
    checksum: str
    """SHA-256 of its bytes, in hex."""
    reload_as: str
    """How to import it again: its path, from any folder, or a dotted name if a path cannot."""


def import_path(typed: str) -> Imported:
    """Import the Python file at a path.

    Raises NotFoundError, UsageError if it is not a readable Python file, UpdaterError (with the
    user's traceback) if it fails.
    """
    data = read_source(typed)
    checksum = hashlib.sha256(data).hexdigest()
    path = os.path.abspath(typed)
    importlib.invalidate_caches()
    make_importable(os.path.dirname(path))
    dotted = _name_in_package(path)
    if dotted:
        with users_code(typed):
            module = importlib.import_module(dotted)
        return Imported(module, path, _executed(module, checksum), path)
    name = _private_name(path)
    loader = _ExactLoader(name, path, data)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    names = [name, *_own_name(path, name)]
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = module
    try:
        with users_code(typed):
            loader.exec_module(module)
    except BaseException:
        for name, previous in before.items():
            if previous is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = previous
        raise
    return Imported(module, path, checksum, path)


def import_name(dotted: str) -> Imported:
    """Import a module by its dotted name. It may be in the current directory.

    Raises what `import_path` raises, and UsageError for a module without Python source.
    """
    importlib.invalidate_caches()
    make_importable(os.getcwd())
    local = os.path.join(*dotted.split(".")) + ".py"
    spec = _find(dotted, local)
    if os.path.isfile(local) and not (spec and _same_file(spec.origin, local)):
        # The file is here, but the name means another module, such as one of the standard library.
        return import_path(local)
    if spec is None:
        raise _no_module(dotted)
    if spec.origin is None:
        folders = list(spec.submodule_search_locations or ())
        specs = [
            spec
            for folder in folders
            for name in _modules_in([folder])
            for spec in specs_of(Path(folder, f"{name}.py"), f"{dotted}.{name}")
        ] or [f"{dotted}.{name}" for name in _modules_in(folders)]
        raise UsageError(f"{dotted} is a folder of modules; name one of them: {listed(specs)}")
    if not spec.has_location or not spec.origin.endswith(".py"):
        raise UsageError(f"{dotted} has no Python source; name a module that is a .py file")
    checksum = hashlib.sha256(read_source(spec.origin)).hexdigest()
    with users_code(dotted):
        module = importlib.import_module(dotted)
    path = os.path.abspath(spec.origin)
    # Only the dotted name shows a package without __init__.py; the path does not.
    in_files_alone = "." not in dotted or _name_in_package(path) == dotted
    reload_as = path if in_files_alone else dotted
    return Imported(module, path, _executed(module, checksum), reload_as)


@contextmanager
def users_code(shown: str, *, does: str = "be loaded") -> Iterator[None]:
    """Turn what a user's code raises, outside a handler, into one sentence and a traceback."""
    try:
        yield
    except UsageError as exc:
        # From our own decorator, for example. The traceback shows the user's line that called it.
        text = user_traceback(exc)
        if not exc.details and "\n" in text:  # otherwise it has no frame of the user's
            exc.details = text
        raise
    except SyntaxError as exc:
        place = f"line {exc.lineno}" if exc.lineno else "the file"
        if exc.filename and not _same_file(exc.filename, shown):
            place += f" of {printable(exc.filename)}"
        raise UpdaterError(
            f"{printable(shown)} cannot {does}: {place} is not valid Python "
            f"({printable(exc.msg or '')}); fix it and run again",
            details=user_traceback(exc),
        ) from exc
    except SystemExit as exc:
        raise UpdaterError(
            f"{printable(shown)} exits (SystemExit: {printable(str(exc))}) when it is imported; "
            'move the script part below `if __name__ == "__main__":`',
            details=user_traceback(exc),
        ) from exc
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise UpdaterError(
            f"{printable(shown)} cannot {does}: {error_line(exc)}; {_advice(exc)}",
            details=user_traceback(exc),
        ) from exc


def make_importable(folder: str) -> None:
    """Put a user's folder on `sys.path`, also for later imports inside handlers.

    It goes after the standard library, which a `json.py` beside an updater must not replace, and
    before installed packages, which may include an old copy of the same project.
    """
    if any(os.path.abspath(entry or os.curdir) == folder for entry in sys.path):
        return
    # Import what bulkup itself needs first, so that a `rich.py` in that folder cannot replace it.
    for needed in ("click", "rich", "tenacity", "google.cloud.datastore"):
        importlib.import_module(needed)
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    standard |= {os.path.join(path, "lib-dynload") for path in standard}
    last = max((i for i, entry in enumerate(sys.path) if entry in standard), default=-1)
    sys.path.insert(last + 1, folder)


class _ExactLoader(SourceFileLoader):
    """Executes exactly the bytes that were read, not a __pycache__ or a newer file."""

    def __init__(self, name: str, path: str, data: bytes) -> None:
        super().__init__(name, path)
        self._data = data

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self._data, self.path)
        # Keep the lines for tracebacks: the file may be edited during a long run.
        text = importlib.util.decode_source(self._data)
        linecache.cache[self.path] = (len(text), None, text.splitlines(True), self.path)
        return code


def _no_module(dotted: str) -> NotFoundError:
    found, folders, rest = "", [os.getcwd()], dotted.split(".")
    while len(rest) > 1 and f"{found}{rest[0]}" in sys.modules:
        found += rest.pop(0)
        folders = list(getattr(sys.modules[found], "__path__", ()))
        found += "."
    there = [".".join([found + name, *rest[1:]]) for name in _modules_in(folders)]
    if built_ins := similar_names(dotted, BUILT_INS):
        return NotFoundError(
            f"there is no module {printable(dotted)}; did you mean the built-in updater "
            f"{built_ins[0]}?"
        )
    return NotFoundError(
        f"there is no module {printable(dotted)}"
        + (
            suggest(dotted, there)
            or "; name an installed module, one that can be imported from the current directory, "
            "or a path that ends in .py"
        )
    )


def _find(dotted: str, local: str) -> ModuleSpec | None:
    """Find a module's spec, or None. This imports its packages, and so runs their code."""
    try:
        with users_code(dotted):
            return importlib.util.find_spec(dotted)
    except UpdaterError as exc:
        cause = exc.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{dotted}.".startswith(f"{cause.name}."):
            return None
        if isinstance(cause, ValueError) and dotted in sys.modules:  # __main__ has no spec
            return None
        raise


def _modules_in(folders: list[str]) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(folders))


def _private_name(path: str) -> str:
    stem = re.sub(r"\W", "_", os.path.basename(path)[: -len(".py")], flags=re.ASCII)
    return f"_bulkup_{stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def _executed(module: ModuleType, checksum: str) -> str:
    """The checksum of the bytes that ran: a module runs once, while its file may change."""
    first: str = vars(module).setdefault("__bulkup_checksum__", checksum)
    return first


def _own_name(path: str, private: str) -> list[str]:
    """The name by which other files import this one, if it is free or already ours.

    A helper that imports the updater back then finds the module being loaded, not a second copy.
    """
    stem = os.path.basename(path)[: -len(".py")]
    if not stem.isidentifier():
        return []
    if stem in sys.modules:
        return [stem] if sys.modules[stem].__name__ == private else []
    spec = importlib.util.find_spec(stem)
    return [stem] if spec and spec.has_location and _same_file(spec.origin, path) else []


def _name_in_package(path: str) -> str | None:
    """The dotted name of a file in a package, which relative imports need.

    None outside packages, and if the outermost package's name means another package, as with a
    folder called `json`.
    """
    folder, file = os.path.split(path)
    parts = [] if file == "__init__.py" else [file[: -len(".py")]]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    if len(parts) < 2 and file != "__init__.py":
        return None
    if not all(part.isidentifier() for part in parts):
        return None
    make_importable(folder)
    try:
        spec = importlib.util.find_spec(parts[0])
    except ValueError:
        return None
    found = list((spec and spec.submodule_search_locations) or ())
    return ".".join(parts) if os.path.join(folder, parts[0]) in found else None


def _same_file(one: str | None, other: str) -> bool:
    try:
        return one is not None and os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


_EXTRAS = {"google.cloud.ndb": "ndb", "pydantic": "pydantic", "cattrs": "typed"}
"""The extra of bulkup that installs each module."""


def _advice(exc: Any) -> str:
    if isinstance(exc, (ImportError, AttributeError)) and (hiding := hiding_file()):
        return hiding
    if isinstance(exc, ImportError):
        is_ndb = exc.name == "google.cloud" and "'ndb'" in exc.msg  # `from google.cloud import ndb`
        extra = "ndb" if is_ndb else _EXTRAS.get(exc.name or "")
        if extra:
            return f"pip install 'bulkup[{extra}]'"
    if isinstance(exc, ModuleNotFoundError) and exc.name and "." not in exc.name:
        return f"install {printable(exc.name)} where bulkup is installed, or fix the name"
    if isinstance(exc, ImportError) and "relative import" in str(exc):
        return "run from the folder above its package and give the dotted name, package.module:Name"
    return "fix it and run again"
