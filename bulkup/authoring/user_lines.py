"""Finds the lines in an updater's source file that assign a property or return a result.

The source is searched only when something is wrong, and nothing is recorded while handlers run. So
this costs nothing until then. A name that is not written out (`entity[name] = ...`) is not found.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from bulkup.core.places import (
    Place,
    in_brackets,
    is_before_call,
    places_of,
    property_of,
    with_places,
)
from bulkup.core.user_traceback import BULKUP, is_own, refused_call

_ADDING = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
        "popleft", "remove", "setdefault", "subtract", "update",
    }
)  # fmt: skip
"""Methods that change a collection."""


_WORD = re.compile(r"""['"](\w+)['"]""")


class Assignment(NamedTuple):
    place: Place
    value: ast.expr | None
    """What is assigned; None if the source does not show it."""
    scope: str
    """The qualified name of the function around it."""


class _Index(ast.NodeVisitor):
    """What one source file assigns, returns and yields."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._scope = ""
        """The qualified name of the function or class being visited."""
        self._function = ""
        """The name of the innermost function."""
        self.assigned: dict[str, list[Assignment]] = defaultdict(list)
        self.returned: dict[str, list[Assignment]] = defaultdict(list)
        """By the qualified name of the function."""
        self.kept: dict[str, list[Place]] = defaultdict(list)
        """Where functions add to a variable or an attribute, by its name."""

    def _found(self, node: Any, value: ast.expr | None) -> Assignment:
        place = Place(self._path, node.lineno, self._function or "<module>")
        return Assignment(place, value, self._scope)

    def _visit_inside(self, node: Any, function: str) -> None:
        before = self._scope, self._function
        outer = self._scope + (".<locals>." if self._function else ".") if self._scope else ""
        self._scope, self._function = outer + node.name, function
        for child in node.body:
            self.visit(child)
        self._scope, self._function = before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_inside(node, "")

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_inside(node, node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the names are those of `ast`

    def _keeps(self, target: ast.expr) -> None:
        """Note that a function adds to a variable or an attribute: `count`, `self.count`."""
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if name and self._function:
            self.kept[name].append(Place(self._path, target.lineno, self._function))

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._target(target, node.value)
            if isinstance(target, ast.Subscript):
                self._keeps(target.value)
            elif any(_is_same(target, inner) for inner in ast.walk(node.value)):
                self._keeps(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._target(node.target, ast.BinOp(node.target, node.op, node.value))
        target = node.target
        self._keeps(target.value if isinstance(target, ast.Subscript) else target)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._target(node.target, node.value)
        self.generic_visit(node)

    def _target(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
            for at, inner in enumerate(target.elts):
                self._target(inner, values[at] if len(values) == len(target.elts) else None)
        elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            self._assigns(target.slice.value, target, value)
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) != "self":
            self._assigns(target.attr, target, value)

    def _assigns(self, name: Any, node: Any, value: ast.expr | None) -> None:
        if isinstance(name, str):
            self.assigned[name].append(self._found(node, value))

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                self._assigns(key.value, key, value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else ""
        if isinstance(function, ast.Attribute) and called in _ADDING:
            self._keeps(function.value)
        if called == "update" or (isinstance(function, ast.Name) and function.id == "dict"):
            for keyword in node.keywords:
                if keyword.arg is not None:
                    self._assigns(keyword.arg, keyword, keyword.value)
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant):
            if called == "setdefault" and len(node.args) == 2:
                self._assigns(first.value, first, node.args[1])
            elif "retype" in (called, getattr(function, "id", "")):  # of bulkup.transforms
                self._assigns(first.value, node, node)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        self.returned[self._scope].append(self._found(node, node.value))
        self.generic_visit(node)

    def visit_Yield(self, node: ast.Yield) -> None:
        self.returned[self._scope].append(self._found(node, node.value))
        self.generic_visit(node)


def _is_same(target: ast.expr, other: ast.AST) -> bool:
    if isinstance(target, ast.Name):
        return isinstance(other, ast.Name) and target.id == other.id
    if isinstance(target, ast.Attribute) and isinstance(other, ast.Attribute):
        return target.attr == other.attr and _is_same(target.value, other.value)
    return False


_indexes: dict[str, tuple[list[str], _Index]] = {}


def _index(path: str) -> _Index:
    """The index of a file; empty if the file does not exist, or is not Python."""
    lines = linecache.getlines(path)
    known = _indexes.get(path)
    if known is not None and known[0] is lines:
        return known[1]
    index = _Index(path)
    with suppress(SyntaxError, ValueError, RecursionError):
        index.visit(ast.parse("".join(lines)))
    _indexes[path] = lines, index
    return index


def user_handler(updater: Any) -> Any:
    """The function that the user has written to handle an entity."""
    return inspect.unwrap(updater._decorated or getattr(type(updater), updater._form))


def is_users_own(updater: Any) -> bool:
    """Whether the user has written the handler; False if it is one of bulkup's."""
    code = getattr(user_handler(updater), "__code__", None)
    return code is not None and not code.co_filename.startswith(BULKUP)


def source_file(updater: Any) -> str:
    """The file of the function that handles an entity; empty if it is not written in Python."""
    code = getattr(user_handler(updater), "__code__", None)
    return "" if code is None else str(code.co_filename)


def assignments(updater: Any, name: str) -> list[Assignment]:
    """Where the updater assigns a property: in its function or class or, if that does not name the
    property, elsewhere in the same file."""
    handler = user_handler(updater)
    code = getattr(handler, "__code__", None)
    if code is None:
        return []
    found = _index(code.co_filename).assigned.get(name, [])
    qualified = handler.__qualname__
    own = qualified if updater._decorated else qualified.rpartition(".")[0]
    return [one for one in found if _is_within(one.scope, own or qualified)] or found


def _is_within(scope: str, outer: str) -> bool:
    return scope == outer or scope.startswith(outer + ".")


def blame(updater: Any, error: BaseException) -> str:
    """Where to change the user's code: ` (assigned at fix.py:12)`, or an empty string.

    Only for errors that bulkup raised: a traceback shows where the user's own code raises.
    """
    if not isinstance(error, (TypeError, ValueError)) or is_before_call(error) or places_of(error):
        return ""  # it already names its places, or has none
    name = property_of(error)
    if name is not None:
        places = _distinct(one.place for one in assignments(updater, name))
        if where := in_brackets(places, "assigned"):
            with_places(error, places)
            return where
    calls = refused_call(error)
    if not calls and updater._decorated and is_own(error):  # the function has returned by now
        calls = returned_at(updater._decorated)
        with_places(error, calls)
    return in_brackets(calls)


def words_of(updater: Any) -> set[str]:
    """The strings in the updater's file that are a single word."""
    code = getattr(user_handler(updater), "__code__", None)
    lines = linecache.getlines(code.co_filename) if code is not None else []
    return set(_WORD.findall("".join(lines)))


def kept_at(updater: Any, name: str) -> list[Place]:
    """Where the updater's file adds to a variable or an attribute."""
    code = getattr(user_handler(updater), "__code__", None)
    return _distinct(iter(_index(code.co_filename).kept.get(name, ()))) if code is not None else []


_UNKNOWN = object()


def returned_at(function: Any, result: Any = _UNKNOWN) -> list[Place]:
    """Where a function may have returned (or yielded) `result`; otherwise where it is defined.
    Without `result`, where it returns something other than a constant."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    returned = _index(code.co_filename).returned.get(function.__qualname__, [])
    exact = [one for one in returned if _says(one.value, result)]
    found = exact or [one for one in returned if not isinstance(one.value, ast.Constant | None)]
    return _distinct(one.place for one in found) or [
        Place(code.co_filename, code.co_firstlineno, function.__name__)
    ]


def _says(value: ast.expr | None, result: Any) -> bool:
    """Whether `value` is the constant that was returned."""
    return (
        isinstance(value, ast.Constant)
        and type(value.value) is type(result)
        and (bool(value.value == result))
    )


def _distinct(places: Iterator[Place]) -> list[Place]:
    return list(dict.fromkeys(places))
