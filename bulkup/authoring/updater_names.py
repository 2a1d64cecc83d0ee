"""Finds the updaters in a file by its text alone: nothing is executed."""

from __future__ import annotations

import ast
from pathlib import Path

from bulkup.authoring.built_ins import CLASS_NAMES

MAX_BYTES = 1024 * 1024
"""The size of a file, in bytes. Larger files are skipped."""


def updater_names(path: Path) -> list[str]:
    """The names of the updaters in a file, as far as its text shows."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    found: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = {_last_name(base) for base in node.bases}
            if bases & {"Updater", "BulkPut", "BulkDelete", *CLASS_NAMES, *found}:
                found.append(node.name)
        elif isinstance(node, ast.FunctionDef) and any(
            _last_name(decorator) == "updater" for decorator in node.decorator_list
        ):
            found.append(node.name)
    return found


def _last_name(node: ast.expr) -> str:
    """`updater` for `@bulkup.updater(kind="Person")`."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def specs_of(path: Path, typed: str) -> list[str]:
    """What to type for each updater in a file: `typed` alone if there is only one."""
    names = updater_names(path)
    return [typed] if len(names) == 1 else [f"{typed}:{name}" for name in names]
