"""The pages of what Python programs use: updaters, tests, `bulkup.run`, and events."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

import bulkup
import bulkup.testing
from bulkup.authoring.param import MISSING
from bulkup.core import events
from docs.reference.text import (
    Missing,
    attribute_texts,
    cell,
    code,
    constant_text,
    docstring,
    table,
)

UPDATERS = (
    "Updater", "BulkPut", "BulkDelete", "updater", "param", "delete", "REMOVE", "client", "key_of",
    "EntityKey", "Unindexed",
)  # fmt: skip
"""The page of updaters; the other names of `bulkup` are on the page of programs."""


def updater_page() -> str:
    parts = [
        "# Writing an updater",
        "What `import bulkup` has for updaters. [The tutorial](../tutorial/first-migration.md) "
        "shows how one is written.",
    ]
    for name in UPDATERS:
        parts += documented(f"bulkup.{name}", getattr(bulkup, name))
    return "\n\n".join(parts) + "\n"


def programs_page() -> str:
    names = [name for name in bulkup.__all__ if name not in UPDATERS]
    parts = ["# From Python programs"]
    for name in names:
        parts += documented(f"bulkup.{name}", getattr(bulkup, name))
    about = docstring(bulkup.testing, "bulkup.testing").partition("\n\n")[0]
    parts += ["## Unit tests: `bulkup.testing`", about]
    for name in bulkup.testing.__all__:
        parts += documented(f"bulkup.testing.{name}", getattr(bulkup.testing, name))
    return "\n\n".join(parts) + "\n"


def events_page() -> str:
    parts = [
        "# Events",
        "`bulkup.run(..., listener=f)` calls `f` with each of these. They are frozen dataclasses "
        "of `bulkup.core.events`; with `--json` each is [a line](../json.md).",
    ]
    for event in get_args(events.Event):
        parts += [f"## {event.__name__}", _dataclass_docstring(event), _fields(event)]
    parts += ["## Kinds of warnings", "`Warned.kind` is one of these:"]
    parts.append(table(("kind", ""), _kinds_of_warnings()))
    return "\n\n".join(parts) + "\n"


def documented(name: str, thing: Any, *, level: int = 2) -> Iterator[str]:
    """A section about one public name, and one about each method of a class."""
    yield f"{'#' * level} {name}"
    if isinstance(thing, type):
        yield _class_docstring(thing, name)
        for member, method in _own_methods(thing):
            yield f"{'#' * (level + 1)} {name}.{member}"
            yield _signature(member, method)
            yield docstring(method, f"{name}.{member}")
    elif inspect.isroutine(thing):
        yield _signature(name, thing)
        yield docstring(thing, name)
    else:
        own = getattr(thing, "__metadata__", (thing,))[0]  # what bulkup adds to a type
        yield constant_text(name.rpartition(".")[2], own)


def _class_docstring(class_: type, name: str) -> str:
    if not is_dataclass(class_):
        return docstring(class_, name)
    return f"{_dataclass_docstring(class_)}\n\n{_fields(class_)}"


def _dataclass_docstring(class_: type) -> str:
    """Python gives a dataclass without a docstring its signature as one."""
    if (class_.__doc__ or "").startswith(f"{class_.__name__}("):
        raise Missing(f"{class_.__module__}.{class_.__name__} has no docstring")
    return docstring(class_, class_.__name__)


def _own_methods(class_: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Those that the class describes itself; an override that does not is its base's."""
    for name, method in vars(class_).items():
        is_inherited = any(hasattr(base, name) for base in class_.__bases__)
        is_described = method.__doc__ is not None or not is_inherited
        if inspect.isfunction(method) and not name.startswith("_") and is_described:
            yield name, method


class _Shown:
    """A default value, as a user would write it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        if self._value is MISSING:
            return "..."
        return repr(str(self._value) if isinstance(self._value, Path) else self._value)


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Without types, which the text names where they matter."""
    shown = [
        one.replace(
            annotation=one.empty,
            default=one.default if one.default is one.empty else _Shown(one.default),
        )
        for one in inspect.signature(function).parameters.values()
        if one.name != "self"
    ]
    return f"```text\n{name}{inspect.Signature(shown)}\n```"


def _fields(class_: type) -> str:
    texts = attribute_texts(class_)
    types = class_.__annotations__
    rows = [(code(name), code(cell(str(types[name]))), cell(text)) for name, text in texts.items()]
    return table(("field", "type", ""), rows) if rows else ""


def _kinds_of_warnings() -> Iterator[tuple[str, str]]:
    texts = attribute_texts(events.WarningKind)
    for kind in events.WarningKind:
        if not texts[kind.name]:
            raise Missing(f"bulkup.core.events.WarningKind.{kind.name} has no text below it")
        yield code(kind.value), cell(texts[kind.name])
