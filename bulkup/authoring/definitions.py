"""Finds the updaters that a module defines, and checks whether they can run."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from bulkup.authoring.function_updater import SPEC_ATTRIBUTE, FunctionSpec, is_ndb_model
from bulkup.authoring.importing import Imported, users_code
from bulkup.authoring.model_choice import type_argument
from bulkup.authoring.param import Param
from bulkup.authoring.source_files import listed, printable, suggest
from bulkup.authoring.updater import CHECKS, FORMS, Updater, is_async
from bulkup.core.errors import NotFoundError, UsageError
from bulkup.core.events import OF_CODE
from bulkup.core.max_failures import ACCEPTED, MaxFailures
from bulkup.core.similar import similar_names


def is_updater(value: Any) -> bool:
    # Look it up statically: a mock has every attribute, and a lazy module would import something.
    if issubclass(type(value), type):
        return Updater in value.__mro__
    try:
        marked = inspect.getattr_static(value, SPEC_ATTRIBUTE, None)
    except Exception:
        return False
    return isinstance(marked, FunctionSpec) and callable(value)


def why_not_runnable(definition: Any) -> str | None:
    """What a class still needs before it can run, or None; a function needs nothing."""
    if not isinstance(definition, type):
        return None
    has_kind = getattr(definition, "kind", None) or is_ndb_model(type_argument(definition))
    if not has_kind and not _has(definition, "get_query"):
        write = '; write kind = "Person", or a get_query that returns self.client.query(...)'
        return f"has no get_query and no kind{_meant(definition, 'kind', 'get_query') or write}"
    if not _has(definition, "handle_entity", "handle_batch"):
        meant = _meant(definition, "handle_entity", "handle_batch")
        return f"has no handle_entity{meant or '; write one that handles one entity'}"
    if inspect.isabstract(definition):
        names = ", ".join(sorted(getattr(definition, "__abstractmethods__", ())))
        return f"is abstract; write its {names}"
    return None


def _has(cls: type, *names: str) -> bool:
    return any(getattr(cls, name) is not getattr(Updater, name) for name in names)


def _meant(cls: type, *names: str) -> str:
    """The end of a sentence about an attribute that may be meant to be one of `names`; empty if
    the class has none."""
    own = cls.__mro__[: cls.__mro__.index(Updater)]
    there = {name for base in own for name in vars(base) if not name.startswith("_")}
    for name in names:
        if close := similar_names(name, sorted(there - set(vars(Updater)))):
            shown = printable(close[0])
            return f", but {shown}, which bulkup does not read: is it meant to be {name}?"
    return ""


def _updaters_in(module: ModuleType) -> dict[str, Any]:
    """All updaters of a module by name, imported ones included, each once."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in list(vars(module).items()):
        if not (callable(value) and is_updater(value)):
            continue
        # Prefer the name in `class Name` to an alias, whichever comes first.
        if id(value) not in found or getattr(value, "__name__", "") == name:
            found[id(value)] = (name, value)
    return dict(found.values())


def _own_updaters(module: ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in _updaters_in(module).items()
        if getattr(value, "__module__", None) == module.__name__
    }


def runnable_in(module: ModuleType) -> dict[str, Any]:
    """The updaters that a module itself defines and that can run, by name."""
    return {
        name: value
        for name, value in _own_updaters(module).items()
        if not why_not_runnable(value) and not (isinstance(value, type) and name.startswith("_"))
    }


def only_one(imported: Imported, where: str) -> tuple[str, Any]:
    """The name and value of the only updater that a module defines.

    Raises UsageError or NotFoundError, listing what there is, if it does not define exactly one.
    """
    module = imported.module
    everything, own = _updaters_in(module), _own_updaters(module)
    runnable = runnable_in(module)
    if len(runnable) == 1:
        return next(iter(runnable.items()))
    shown = printable(where)
    if runnable:
        raise UsageError(f"{shown} has several updaters; name one: {_specs(where, runnable)}")
    if own:
        name, value = next(iter(own.items()))
        reason = why_not_runnable(value) or "is private (_); add its name after a colon"
        raise UsageError(f"{name} in {shown} {reason}")
    imports = {name: value for name, value in everything.items() if not why_not_runnable(value)}
    if imports:
        raise NotFoundError(
            f"{shown} defines no updater itself; name one that it imports: {_specs(where, imports)}"
        )
    raise NotFoundError(
        f"there is no updater in {shown}; define a subclass of bulkup.Updater there, or mark a "
        'function with @bulkup.updater(kind="...")'
    )


def named(imported: Imported, where: str, name: str) -> Any:
    """The updater of this name. Raises NotFoundError, UsageError."""
    with users_code(where):
        # getattr, because a module may have a __getattr__.
        value = getattr(imported.module, name, None)
    shown = printable(where)
    if value is None and name not in vars(imported.module):
        there = {k: v for k, v in _updaters_in(imported.module).items() if not why_not_runnable(v)}
        listed = f"its updaters are: {_specs(where, there)}" if there else "it has no updater"
        raise NotFoundError(f"there is no {name} in {shown}; {listed}{suggest(name, there)}")
    if not is_updater(value):
        is_class = isinstance(value, type)
        raise UsageError(
            f"{name} in {shown} is a {'class' if is_class else type(value).__name__} and not an "
            + (
                "updater; make it a subclass of bulkup.Updater"
                if is_class
                else 'updater; mark a function with @bulkup.updater(kind="...")'
            )
        )
    if reason := why_not_runnable(value):
        raise UsageError(f"{name} in {shown} {reason}")
    return value


def _specs(where: str, updaters: Mapping[str, Any]) -> str:
    return ", ".join(shlex.quote(f"{printable(where)}:{name}") for name in updaters)


def check(definition: Any, name: str) -> None:
    """Raise UsageError for what would fail at the first entity, or silently do nothing."""
    if isinstance(definition, type):
        _check_class(definition, name)
        failures = inspect.getattr_static(definition, "max_failures")
        once = inspect.getattr_static(definition, "once")
        ignored = inspect.getattr_static(definition, "ignore_warnings")
        concurrency = inspect.getattr_static(definition, "concurrency")
    else:
        spec = inspect.getattr_static(definition, SPEC_ATTRIBUTE)
        if spec.batch and is_async(definition):
            raise UsageError(
                f"{name} is async, which bulkup does not support with batch=True; use def instead "
                "of async def"
            )
        for hook in CHECKS:
            if is_async(getattr(spec, hook)):
                raise UsageError(f"{hook} of {name} is async, which bulkup does not support")
        failures, once, ignored = spec.max_failures, spec.once, spec.ignore_warnings
        concurrency = spec.concurrency
    _check_ignored(ignored, name)
    # Older code may use this name for an attribute of its own.
    if concurrency is not Updater.concurrency and _has_async_handler(definition):
        check_concurrency(concurrency, name)
    # Older code may use this name for a method of its own.
    if not (isinstance(once, (bool, Param)) or callable(once)):
        raise UsageError(f"once of {name} is {once!r:.80}; use True or False")
    if isinstance(failures, Param):
        return
    if isinstance(failures, str) and "%" not in failures:
        raise _not_max_failures(failures, name)  # in Python, a number is not a string
    check_max_failures(failures, name)


def check_max_failures(value: Any, name: str) -> None:
    """Raises UsageError."""
    try:
        MaxFailures.of(value)
    except UsageError:
        raise _not_max_failures(value, name) from None


def _not_max_failures(value: Any, name: str) -> UsageError:
    return UsageError(f"max_failures of {name} is {value!r:.80}; {ACCEPTED}")


def _has_async_handler(definition: Any) -> bool:
    return is_async(getattr(definition, "handle_entity", definition))


def check_concurrency(concurrency: Any, name: str) -> None:
    """Raises UsageError."""
    if isinstance(concurrency, Param):
        return  # its value is checked once it is known
    is_number = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if not is_number or concurrency < 1:
        raise UsageError(
            f"concurrency of {name} is {concurrency!r:.80}; use a whole number of entities that an "
            "async handle_entity handles at once"
        )


def _check_ignored(ignored: Any, name: str) -> None:
    kinds = [kind.value for kind in OF_CODE]
    if not isinstance(ignored, (list, tuple, set, frozenset)):
        raise UsageError(
            f"ignore_warnings of {name} is {ignored!r:.80}; use a list of {listed(kinds)}"
        )
    for kind in ignored:
        if kind not in kinds:
            close = suggest(str(kind), kinds) or f"; use one of {listed(kinds)}"
            raise UsageError(
                f"ignore_warnings of {name} has {kind!r:.80}, which is not a kind of warning{close}"
            )


_ATTRIBUTES = frozenset(name for name in vars(Updater) if "_" in name and not name.startswith("_"))
"""Updater's attributes with two words or more. A class may well have a shorter one of its own,
such as `finished` or `puts`."""


def misspelled(definition: Any) -> str:
    """A sentence about an attribute of a class that nothing reads and that is probably meant to be
    one of Updater's; empty if there is none."""
    if not isinstance(definition, type):
        return ""
    own = definition.__mro__[: definition.__mro__.index(Updater)]
    names = {name for cls in own for name in vars(cls) if not name.startswith("_")}
    for name in sorted(names - set(vars(Updater))):
        for meant in similar_names(name, sorted(_ATTRIBUTES - names)):
            return (
                f"{definition.__name__} has {printable(name)}, which bulkup does not read; is it "
                f"meant to be {meant}?"
            )
    return ""


def _check_class(cls: type[Updater], name: str) -> None:
    for hook in CHECKS:
        if not callable(getattr(cls, hook)):
            raise UsageError(f"{hook} of {name} cannot be called; make it a method")
    for method in ("get_query", "handle_batch", "finish", *CHECKS):
        if is_async(getattr(cls, method)):
            raise UsageError(f"{name}.{method} is async, which bulkup does not support; use def")
    if all(getattr(cls, form) is not getattr(Updater, form) for form in FORMS):
        raise UsageError(
            f"{name} has handle_entity and handle_batch, of which bulkup would call only one; "
            "remove one, or give it another name"
        )
    for method in FORMS:
        function = inspect.unwrap(getattr(cls, method))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(f"{name}.{method} yields; in a class, call self.put or self.delete")
    try:
        inspect.signature(cls).bind()
    except TypeError as exc:
        raise UsageError(
            f"{name}.__init__ cannot be called without arguments ({exc}); "
            "declare what it needs as parameters: name: str = bulkup.param()"
        ) from exc
    except ValueError:
        pass  # a class written in C has no signature


def first_line(definition: Any) -> str:
    # Not inspect.getdoc, which would return the docstring of bulkup.Updater.
    doc = definition.__doc__
    lines = inspect.cleandoc(doc).splitlines() if isinstance(doc, str) else []
    return next((line.strip() for line in lines if line.strip()), "")
