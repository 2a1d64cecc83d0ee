"""Checks whether what an updater's methods pass to `self.then` can be a successor.

`finish` is called only when all the work is done, and never in a dry run. Its source can be checked
before that: for a name that means nothing, or a parameter that the successor does not have. What is
known only when the call is made is not checked.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getattr_static
from textwrap import dedent
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bulkup.authoring.loader import UpdaterSource, describe, load
from bulkup.authoring.parameters import Parameter, convert
from bulkup.authoring.successors import locate, relative_spec
from bulkup.core.errors import BulkupError


@dataclass(frozen=True)
class _Call:
    """One `self.then(...)`."""

    place: str
    updater: Any
    literals: dict[str, Any]
    """The parameters whose values are literals in the source."""
    others: tuple[str, ...]
    """The names of parameters whose values are computed."""
    has_more: bool
    """True if there may be more (`**params`)."""


@dataclass(frozen=True)
class _Known:
    """The part of a successor's parameters that can be checked."""

    name: str
    parameters: tuple[Parameter, ...]


def then_problems(source: UpdaterSource, *, loads: bool) -> list[str]:
    """Sentences about successors that cannot begin. `loads`: also load those named by a string."""
    problems = []
    for call in _calls(source.definition):
        try:
            _check(call, os.path.dirname(source.path), loads=loads)
        except BulkupError as error:
            problems.append(
                f"{source.name}.{call.place} names a successor that cannot begin: {error.message}"
            )
    return problems


def _check(call: _Call, folder: str, *, loads: bool) -> None:
    """Raises BulkupError."""
    if not isinstance(call.updater, str):
        successor = describe(call.updater)
    elif loads:
        successor = load(locate([relative_spec(call.updater, folder)], folder))
    else:
        return
    names = {parameter.name for parameter in successor.parameters}
    given = {*call.literals, *call.others}
    checked = tuple(
        parameter
        for parameter in successor.parameters
        if parameter.name in call.literals or not (parameter.name in given or call.has_more)
    )
    unknown: dict[str, Any] = {name: None for name in call.others if name not in names}
    convert(_Known(successor.name, checked), {**call.literals, **unknown})


def _calls(definition: Any) -> Iterator[_Call]:
    if not isinstance(definition, type):
        return
    for cls in definition.__mro__:
        if cls.__module__.partition(".")[0] == "bulkup":
            continue
        for name, value in vars(cls).items():
            if isinstance(value, FunctionType) and _mentions_then(value.__code__):
                yield from _calls_in(definition, name, value)


def _mentions_then(code: CodeType) -> bool:
    """Whether code may call `then`. Checked first, since reading its source takes a millisecond."""
    nested = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return "then" in code.co_names or any(map(_mentions_then, nested))


def _calls_in(definition: type, name: str, function: FunctionType) -> Iterator[_Call]:
    try:
        (tree,) = ast.parse(dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError, ValueError, TypeError):
        return  # no source, or a lambda in the middle of a line
    if not isinstance(tree, ast.FunctionDef) or not tree.args.args:
        return
    itself = tree.args.args[0].arg
    module = sys.modules.get(function.__module__)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and _is_attribute_of(node.func, itself, "then")):
            continue
        updater = _value(node.args[0], itself, definition, module) if node.args else None
        if updater is None:
            continue  # known only when the call is made
        literals: dict[str, Any] = {}
        others = []
        for keyword in node.keywords:
            if keyword.arg is None:
                continue
            try:
                literals[keyword.arg] = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError):
                others.append(keyword.arg)
        has_more = any(keyword.arg is None for keyword in node.keywords)
        yield _Call(name, updater, literals, tuple(others), has_more)


def _is_attribute_of(node: ast.expr, owner: str, name: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
    )


def _value(node: ast.expr, itself: str, definition: type, module: ModuleType | None) -> Any:
    """What a name or a string in the source stands for; None if that is not known."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return vars(module).get(node.id) if module is not None else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == itself:
            return getattr_static(definition, node.attr, None)
        owner = vars(module).get(node.value.id) if module is not None else None
        if isinstance(owner, ModuleType):
            return getattr_static(owner, node.attr, None)
    return None
