"""The page of built-in updaters, with their parameters, and of the functions they are made of."""

from __future__ import annotations

from collections.abc import Iterator

import bulkup.transforms
from bulkup.authoring.built_ins import BUILT_INS, built_in
from bulkup.authoring.parameters import parameters_of
from docs.reference.api import documented
from docs.reference.text import Missing, cell, code, docstring, table

INTRODUCTION = """\
# Built-in updaters and transforms

[Built-in updaters](../builtins.md) shows how they are used."""


def page() -> str:
    return "\n\n".join([INTRODUCTION, "## Built-in updaters", *_built_ins(), *_functions()]) + "\n"


def _built_ins() -> Iterator[str]:
    for name in BUILT_INS:
        updater = built_in(name)
        yield f"### {name}"
        yield docstring(updater, f"the built-in updater {name}")
        rows = []
        for parameter in parameters_of(updater):
            if not parameter.help:
                raise Missing(f"the parameter {parameter.name} of {name} has no help")
            default = "" if parameter.required else code(parameter.default_text)
            rows.append((code(parameter.name), cell(parameter.type), default, cell(parameter.help)))
        yield table(("parameter", "type", "default", ""), rows)


def _functions() -> Iterator[str]:
    """The classes of the built-in updaters are above, by their names on the command line."""
    yield "## In your own updaters"
    built_ins = {built_in(name) for name in BUILT_INS}
    for name in bulkup.transforms.__all__:
        thing = getattr(bulkup.transforms, name)
        if thing in built_ins:
            continue
        yield from documented(f"bulkup.transforms.{name}", thing, level=3)
    names = {built_in(name).__name__: name for name in BUILT_INS}
    yield "### Classes of the built-in updaters"
    yield "To derive your own from, with parameters as attributes:"
    rows = ((code(f"bulkup.transforms.{class_}"), code(name)) for class_, name in names.items())
    yield table(("class", "built-in updater"), rows)
