"""Markdown, made of the texts that the code has."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

DOCS = Path(__file__).parents[1]
_PAGE = re.compile(r"`?\bdocs/([\w/-]+\.md)\b`?")
_AN_ITEM = re.compile(r"`(?P<name>\w+)`(?:\s{2,}(?P<text>\S.*))?")


class Missing(Exception):
    """Something that a user meets has no description."""


def cell(text: str) -> str:
    """A text in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (headers, *rows))
    return "\n".join([head, "|" + "---|" * len(headers), *body])


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def docstring(thing: Any, name: str) -> str:
    """A docstring as Markdown. Indented lines in it are code, except for lists of names."""
    text = inspect.getdoc(thing) or ""
    if not text or text == inspect.getdoc(object):
        raise Missing(f"{name} has no docstring")
    blocks = re.split(r"\n{2,}", text)
    return linked("\n\n".join(map(_as_list, blocks)))


def linked(text: str) -> str:
    """With a link for each page that the text names as the code does: docs/counts.md."""
    return _PAGE.sub(lambda found: f"[{_title(found[1])}](../{found[1]})", text)


def _title(page: str) -> str:
    try:
        first = (DOCS / page).read_text(encoding="utf-8").partition("\n")[0]
    except FileNotFoundError:
        raise Missing(f"docs/{page}, which a docstring names, is not there") from None
    return first.lstrip("# ")


def items(block: str) -> Iterator[tuple[str, str]]:
    """The names that a block lists, each with what follows it in a column of its own.

    `once`       do nothing when a run has finished
                 the same work before.
    """
    name, words = "", ""
    for line in block.splitlines():
        if found := _AN_ITEM.match(line):
            if name:
                yield name, words
            name, words = found["name"], found["text"] or ""
        else:
            words = f"{words} {line.strip()}".strip()
    if name:
        yield name, words


def _as_list(block: str) -> str:
    if not re.match(r"`\w+`(\s{2,}\S|\n)", block):
        return block
    return "\n".join(f"- `{name}`: {text}" for name, text in items(block))


def attribute_texts(class_: type) -> dict[str, str]:
    """The string literal below each field or member of a class, which is what describes it."""
    (definition,) = ast.parse(dedent(inspect.getsource(class_))).body
    assert isinstance(definition, ast.ClassDef)
    return _texts(definition.body)


def constant_text(name: str, value: object) -> str:
    """The string literal below a constant, in the module that has its type."""
    module = inspect.getmodule(type(value))
    text = _texts(ast.parse(inspect.getsource(module)).body).get(name) if module else None
    if not text:
        raise Missing(f"{name} has no text below it")
    return text


def _texts(body: Iterable[ast.stmt]) -> dict[str, str]:
    texts: dict[str, str] = {}
    last = ""
    for node in body:
        if isinstance(node, (ast.AnnAssign, ast.Assign)):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            last = target.id if isinstance(target, ast.Name) else ""
            texts |= {last: ""} if last else {}
        else:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
                texts[last] = inspect.cleandoc(str(node.value.value))
            last = ""
    return texts
