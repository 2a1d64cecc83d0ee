"""From what a user types to an updater that is ready to run.

source = load("updaters/cities.py:FixCities")
updater = make(source, convert(source, {"sep": "-"}))
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bulkup.authoring.built_ins import built_in, built_in_name
from bulkup.authoring.definitions import (
    check,
    first_line,
    is_updater,
    named,
    only_one,
    why_not_runnable,
)
from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.importing import Imported, import_name, import_path, users_code
from bulkup.authoring.model_adapter import adapt
from bulkup.authoring.model_choice import adapter_for
from bulkup.authoring.param import Param
from bulkup.authoring.parameters import Parameter, parameters_of
from bulkup.authoring.source_files import printable, read_source
from bulkup.authoring.updater import Updater
from bulkup.core.errors import NotFoundError, ParameterError, UsageError
from bulkup.core.user_traceback import error_line, user_traceback

__all__ = ["UpdaterSource", "error_line", "load", "make", "user_traceback"]


@dataclass(frozen=True)
class UpdaterSource:
    """An updater that was found, and all that a run records about it."""

    name: str
    description: str
    """The first line of its docstring, or empty."""
    definition: type[Updater] | Callable[..., Any]
    """The class or the decorated function."""
    path: str
    """Absolute path of the source file that defines it."""
    checksum: str
    """SHA-256 of that file's bytes, in hex."""
    spec: str
    """What `load` takes to find it again from any folder: an absolute path and `:Name`.

    For a module in a package without `__init__.py`, a path would not work. Its spec is a dotted
    name, which is found only from the same current directory.
    """
    parameters: tuple[Parameter, ...]
    only_here: str | None = None
    """Why no other process can load it; None if `load(spec)` finds it."""


def load(spec: str) -> UpdaterSource:
    """Load the updater that `path/to/file.py[:Name]` or `package.module[:Name]` names, or a
    built-in one by its name.

    Without a name, the file must define exactly one updater. The file's folder (for a dotted name,
    the current directory) stays importable.
    Raises NotFoundError, UsageError, ParameterError; UpdaterError, with a traceback as `details`,
    when importing the user's code fails.
    """
    if (definition := built_in(spec)) is not None:
        return describe(definition)
    where, name = _split(spec)
    imported = import_path(where) if _is_path(where) else import_name(where)
    if name is None:
        name, definition = only_one(imported, where)
    else:
        definition = named(imported, where, name)
    check(definition, name)
    path, checksum = _source_file(imported, definition)
    return UpdaterSource(
        name=name,
        description=first_line(definition),
        definition=definition,
        path=path,
        checksum=checksum,
        spec=f"{imported.reload_as}:{name}",
        parameters=parameters_of(definition),
    )


def check_is_there(spec: str) -> None:
    """Check, without running it, that the file of an updater exists and can be read. `load` reports
    any other problem. For commands that do something long before they load the updater.

    Raises NotFoundError, UsageError.
    """
    if built_in(spec) is None:
        where, _ = _split(spec)
        if _is_path(where):
            read_source(where)


def describe(definition: Any) -> UpdaterSource:
    """Describe an updater that is already imported, as `bulkup.run` gets it.

    Raises UsageError for anything else, ParameterError as `load` does.
    """
    if not is_updater(definition):
        raise UsageError(
            f"{printable(repr(definition))} is not an updater; give a subclass of bulkup.Updater, "
            "a function marked with @bulkup.updater, or the path of a file that holds one"
        )
    built_in_as = built_in_name(definition)
    name = built_in_as or definition.__name__
    if reason := why_not_runnable(definition):
        raise UsageError(f"{name} {reason}")
    check(definition, name)
    try:
        path = os.path.abspath(inspect.getfile(inspect.unwrap(definition)))
        checksum = hashlib.sha256(read_source(path)).hexdigest()
    except (TypeError, OSError, NotFoundError):
        path = checksum = ""  # typed into an interpreter, so there is no file
    return UpdaterSource(
        name=name,
        description=first_line(definition),
        definition=definition,
        path=path,
        checksum=checksum,
        spec=built_in_as or f"{path or definition.__module__}:{name}",
        parameters=parameters_of(definition),
        only_here=_only_here(definition, path),
    )


def _only_here(definition: Any, path: str) -> str | None:
    if not path:
        return "it is not defined in a file"
    if "<locals>" in getattr(definition, "__qualname__", ""):
        return "it is defined inside a function"
    module = sys.modules.get(getattr(definition, "__module__", None) or "")
    if getattr(module, definition.__name__, None) is not definition:
        return "its name means something else at the top of its file"
    return None


def make(source: UpdaterSource, values: Mapping[str, Any]) -> Updater:
    """Create an instance with its parameters set to `values`, the result of `parameters.convert`.

    The attributes are set before `__init__` runs. Raises ParameterError when a value is missing,
    UpdaterError when `__init__` fails.
    """
    for parameter in source.parameters:
        if parameter.name not in values:
            raise ParameterError(f"{source.name} needs a value for {parameter.name!r}")
    definition = source.definition
    if not isinstance(definition, type):
        function_updater = FunctionUpdater(definition)
        function_updater.arguments = dict(values)
        return with_models(function_updater, source.name)
    cls: Any = definition
    with users_code(source.name, does="be created"):
        updater: Updater = cls.__new__(cls)
        names = {p.name: p.attribute for p in source.parameters if p.attribute}
        attributes = {names.get(name, name): value for name, value in values.items()}
        for name, value in attributes.items():
            setattr(updater, name, value)
        cls.__init__(updater)
        for name, value in attributes.items():
            # A dataclass's __init__ assigns its defaults, and param() is one.
            if isinstance(getattr(updater, name), Param):
                setattr(updater, name, value)
    return with_models(updater, source.name)


def with_models(updater: Updater[Any], name: str) -> Updater[Any]:
    """The same updater; its handler now gets the models that it is typed for. Raises UsageError."""
    if updater._models is None:
        adapter = adapter_for(updater, name)
        if adapter is not None:
            adapt(updater, adapter)
    return updater


def _split(spec: str) -> tuple[str, str | None]:
    if not spec or "\0" in spec:
        raise UsageError("name an updater: path/to/file.py:Name or package.module:Name")
    where, colon, name = spec.rpartition(":")
    if not colon or os.path.exists(spec):
        return spec, None
    if not where:
        raise UsageError(
            f"{printable(spec)} does not say where {printable(name)} is; "
            "write path/to/file.py:Name or package.module:Name"
        )
    if not name.isidentifier() and not (where.endswith(".py") or os.path.exists(where)):
        return spec, None  # a path with a colon in it
    if not name.isidentifier():
        raise UsageError(
            f"{printable(name) if name else 'nothing'} after the colon of {printable(spec)} is not "
            "a valid name of a class or function; leave it out if the file has only one updater"
        )
    return where, name


def _is_path(where: str) -> bool:
    dotted = all(part.isidentifier() for part in where.split("."))
    return not dotted or where.endswith(".py") or os.path.isfile(where)


def _source_file(imported: Imported, definition: Any) -> tuple[str, str]:
    """The file that defines an updater, which may not be the imported one, and its checksum."""
    module = sys.modules.get(getattr(definition, "__module__", None) or "", imported.module)
    path = getattr(module, "__file__", None)
    if module is imported.module or not path or not path.endswith(".py"):
        return imported.path, imported.checksum
    return os.path.abspath(path), hashlib.sha256(read_source(path)).hexdigest()
