"""From what a user types to an updater ready to run.

source = load("updaters/cities.py:FixCities")
updater = make(source, convert(source, {"sep": "-"}))
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from bulkup.authoring.importing import (
    Imported,
    import_name,
    import_path,
    printable,
    read_source,
    suggest,
    users_code,
)
from bulkup.authoring.parameters import Parameter, parameters_of
from bulkup.authoring.updater import SPEC_ATTRIBUTE, FunctionSpec, FunctionUpdater, Param, Updater
from bulkup.core.errors import NotFoundError, ParameterError, UsageError
from bulkup.core.user_traceback import error_line, user_traceback

__all__ = ["UpdaterSource", "error_line", "load", "make", "user_traceback"]


@dataclass(frozen=True)
class UpdaterSource:
    """An updater that was found, with all that a run remembers of it."""

    name: str
    description: str
    """First line of its docstring, or empty."""
    definition: type[Updater] | Callable[..., Any]
    """The class or the decorated function."""
    path: str
    """Absolute, of the source file that defines it."""
    checksum: str
    """SHA-256 of that file's bytes, in hex."""
    spec: str
    """What `load` takes to find it again from another directory: an absolute path and `:Name`.

    A module in a package without `__init__.py` has no such path; its spec stays a dotted name,
    to be found from the directory it was found from.
    """
    parameters: tuple[Parameter, ...]
    only_here: str = ""
    """Why no other process can load it; empty: `load(spec)` finds it."""


def load(spec: str) -> UpdaterSource:
    """Find the updater that `path/to/file.py[:Name]` or `package.module[:Name]` means.

    Without a name the file must define exactly one. The file's folder (for a dotted name, the
    current directory) stays importable.
    Raises NotFoundError, UsageError, ParameterError; UpdaterError when the user's code fails
    while it is imported, with its traceback as `details`.
    """
    where, name = _split(spec)
    imported = import_path(where) if _is_path(where) else import_name(where)
    if name is None:
        name, definition = _only_one(imported, where)
    else:
        definition = _named(imported, where, name)
    _check(definition, name)
    path, checksum = _source_file(imported, definition)
    return UpdaterSource(
        name=name,
        description=_first_line(definition),
        definition=definition,
        path=path,
        checksum=checksum,
        spec=f"{imported.reload_as}:{name}",
        parameters=parameters_of(definition),
    )


def describe(definition: Any) -> UpdaterSource:
    """The same for an updater at hand, as `bulkup.run` gets it.

    Raises UsageError for what is none, ParameterError as `load` does.
    """
    if not _is_updater(definition):
        raise UsageError(
            f"{printable(repr(definition))} is not an updater; give a subclass of bulkup.Updater, "
            "a function marked with @bulkup.updater, or the path of a file that holds one"
        )
    name = definition.__name__
    if lacks := _lacks(definition):
        raise UsageError(f"{name} {lacks}")
    _check(definition, name)
    try:
        path = os.path.abspath(inspect.getfile(inspect.unwrap(definition)))
        checksum = hashlib.sha256(read_source(path)).hexdigest()
    except (TypeError, OSError, NotFoundError):
        path = checksum = ""  # typed into an interpreter: no file to find it again
    return UpdaterSource(
        name=name,
        description=_first_line(definition),
        definition=definition,
        path=path,
        checksum=checksum,
        spec=f"{path or definition.__module__}:{name}",
        parameters=parameters_of(definition),
        only_here=_only_here(definition, path),
    )


def _only_here(definition: Any, path: str) -> str:
    if not path:
        return "it stands in no file"
    if "<locals>" in getattr(definition, "__qualname__", ""):
        return "it is defined inside a function"
    module = sys.modules.get(getattr(definition, "__module__", None) or "")
    if getattr(module, definition.__name__, None) is not definition:
        return "it is not what its name means at the top of its file"
    return ""


def make(source: UpdaterSource, values: Mapping[str, Any]) -> Updater:
    """An instance with its parameters set to `values`, which come from `parameters.convert`.

    The attributes are there before `__init__` runs. Raises ParameterError when a value is
    missing, UpdaterError when `__init__` fails.
    """
    for parameter in source.parameters:
        if parameter.name not in values:
            raise ParameterError(f"{source.name} needs a value for {parameter.name!r}")
    definition = source.definition
    if not isinstance(definition, type):
        function_updater = FunctionUpdater(definition)
        function_updater.arguments = dict(values)
        return function_updater
    cls: Any = definition
    with users_code(source.name, does="be made"):
        updater: Updater = cls.__new__(cls)
        for name, value in values.items():
            setattr(updater, name, value)
        cls.__init__(updater)
        for name, value in values.items():
            # A dataclass's __init__ assigns its defaults, and param() is one.
            if isinstance(getattr(updater, name), Param):
                setattr(updater, name, value)
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
            f"after the colon of {printable(spec)} stands the name of a class or function, "
            f"and {printable(name) or 'nothing'} is none; leave it out where there is only one"
        )
    return where, name


def _is_path(where: str) -> bool:
    dotted = all(part.isidentifier() for part in where.split("."))
    return not dotted or where.endswith(".py") or os.path.isfile(where)


def _is_updater(value: Any) -> bool:
    # Statically: an object may answer any attribute (a mock), or import something to answer.
    if issubclass(type(value), type):
        return Updater in value.__mro__
    try:
        marked = inspect.getattr_static(value, SPEC_ATTRIBUTE, None)
    except Exception:
        return False
    return isinstance(marked, FunctionSpec) and callable(value)


def _lacks(definition: Any) -> str:
    """What a class still needs before it can run; empty for a function."""
    if not isinstance(definition, type):
        return ""
    for method, does in (
        ("get_query", 'returns self.client.query(kind="...")'),
        ("handle_entity", "handles one entity"),
    ):
        if getattr(definition, method) is getattr(Updater, method):
            return f"has no {method}; write one that {does}"
    if inspect.isabstract(definition):
        names = ", ".join(sorted(getattr(definition, "__abstractmethods__", ())))
        return f"is abstract; write its {names}"
    return ""


def _updaters_in(module: ModuleType) -> dict[str, Any]:
    """All updaters of a module by name, imported ones included, each of them once."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in list(vars(module).items()):
        if not _is_updater(value):
            continue
        # An alias counts as little as the order: the name in `class Name` is the name.
        if id(value) not in found or getattr(value, "__name__", "") == name:
            found[id(value)] = (name, value)
    return dict(found.values())


def _only_one(imported: Imported, where: str) -> tuple[str, Any]:
    module = imported.module
    everything = _updaters_in(module)
    own = {
        name: value
        for name, value in everything.items()
        if getattr(value, "__module__", None) == module.__name__
    }
    runnable = {
        name: value
        for name, value in own.items()
        if not _lacks(value) and not (isinstance(value, type) and name.startswith("_"))
    }
    shown = printable(where)
    if len(runnable) == 1:
        return next(iter(runnable.items()))
    if runnable:
        raise UsageError(f"{shown} has several updaters; name one: {_specs(where, runnable)}")
    if own:
        name, value = next(iter(own.items()))
        lacks = _lacks(value) or "is private by its name; name it after a colon"
        raise UsageError(f"{name} in {shown} {lacks}")
    imports = {name: value for name, value in everything.items() if not _lacks(value)}
    if imports:
        raise NotFoundError(
            f"{shown} defines no updater, and an imported one has to be named: "
            f"{_specs(where, imports)}"
        )
    raise NotFoundError(
        f"there is no updater in {shown}; define a subclass of bulkup.Updater there, or mark a "
        'function with @bulkup.updater(kind="...")'
    )


def _named(imported: Imported, where: str, name: str) -> Any:
    with users_code(where):
        # getattr, for a module may have a __getattr__ of its own.
        value = getattr(imported.module, name, None)
    shown = printable(where)
    if value is None and name not in vars(imported.module):
        there = {k: v for k, v in _updaters_in(imported.module).items() if not _lacks(v)}
        listed = f"its updaters are: {_specs(where, there)}" if there else "it has no updater"
        raise NotFoundError(f"there is no {name} in {shown}; {listed}{suggest(name, there)}")
    if not _is_updater(value):
        is_class = isinstance(value, type)
        raise UsageError(
            f"{name} in {shown} is a {'class' if is_class else type(value).__name__} and not an "
            + (
                "updater; make it a subclass of bulkup.Updater"
                if is_class
                else 'updater; mark a function with @bulkup.updater(kind="...")'
            )
        )
    if lacks := _lacks(value):
        raise UsageError(f"{name} in {shown} {lacks}")
    return value


def _specs(where: str, updaters: Mapping[str, Any]) -> str:
    return ", ".join(shlex.quote(f"{printable(where)}:{name}") for name in updaters)


def _check(definition: Any, name: str) -> None:
    """Refuse what would fail at the first entity, or quietly do nothing at every one."""
    if isinstance(definition, type):
        _check_class(definition, name)
        failures = inspect.getattr_static(definition, "max_failures")
    else:
        if _is_async(definition):
            raise UsageError(
                f"{name} is async, and an updater is called like any function; use def"
            )
        failures = inspect.getattr_static(definition, SPEC_ATTRIBUTE).max_failures
    if isinstance(failures, Param):
        return
    if isinstance(failures, bool) or not isinstance(failures, int) or failures < -1:
        raise UsageError(
            f"max_failures of {name} is {failures!r:.80}; use a whole number: 0 stops at the first "
            "failure, -1 never stops"
        )


def _check_class(cls: type[Updater], name: str) -> None:
    for method in ("get_query", "handle_entity", "finish"):
        if _is_async(getattr(cls, method)):
            raise UsageError(f"{name}.{method} is async, and is called like any method; use def")
    if inspect.isgeneratorfunction(inspect.unwrap(cls.handle_entity)):
        raise UsageError(f"{name}.handle_entity yields; in a class, call self.put or self.delete")
    try:
        inspect.signature(cls).bind()
    except TypeError as exc:
        raise UsageError(
            f"{name}.__init__ cannot be called without arguments ({exc}); "
            "declare what it needs as parameters: name: str = bulkup.param()"
        ) from exc
    except ValueError:
        pass  # a class written in C, whose signature Python does not know


def _is_async(function: Any) -> bool:
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _first_line(definition: Any) -> str:
    # Not inspect.getdoc: a class without a docstring would show that of bulkup.Updater.
    doc = definition.__doc__
    lines = inspect.cleandoc(doc).splitlines() if isinstance(doc, str) else []
    return next((line.strip() for line in lines if line.strip()), "")


def _source_file(imported: Imported, definition: Any) -> tuple[str, str]:
    """The defining file and its checksum: for an updater imported from elsewhere, that one's."""
    module = sys.modules.get(getattr(definition, "__module__", None) or "", imported.module)
    path = getattr(module, "__file__", None)
    if module is imported.module or not path or not path.endswith(".py"):
        return imported.path, imported.checksum
    return os.path.abspath(path), hashlib.sha256(read_source(path)).hexdigest()
