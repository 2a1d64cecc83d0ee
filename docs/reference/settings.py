"""The page of the configuration file's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from bulkup.cli.config_keys import OPTIONS, TABLES, TOP_LEVEL
from bulkup.cli.named_target import TargetName
from docs.reference.commands import without_default
from docs.reference.text import Missing, cell, code, table

INTRODUCTION = """\
# Keys of the configuration file

They are in `[tool.bulkup]` of `pyproject.toml`, or at the top level of `bulkup.toml`.
[Configuration](../configuration.md) says which file is used, and what wins. Keys may be written
with `-` or `_`. Any other key is refused."""


def page() -> str:
    return "\n\n".join([INTRODUCTION, *_options(), *_tables()]) + "\n"


def _options() -> Iterator[str]:
    yield "## Options that several commands share"
    rows = []
    for name, option in OPTIONS.items():
        if not option.help:
            raise Missing(f"the option {option.opts[0]} has no help")
        typed = max(option.opts, key=len)
        text, _ = without_default(option.help)
        rows.append((code(name), _type(option), code(typed), cell(text)))
    yield table(("key", "type", "option", ""), rows)
    yield "## Other keys"
    yield table(("key", ""), _described(TOP_LEVEL))


def _tables() -> Iterator[str]:
    for name, (what, keys) in TABLES.items():
        yield f"## `[tool.bulkup.{name}]`"
        yield what
        if keys:
            yield table(("key", ""), _described(keys))


def _described(keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, what in keys.items():
        if not what:
            raise Missing(f"the key {name} of the configuration file has no description")
        yield code(name), cell(what)


def _type(option: click.Option) -> str:
    if option.is_flag:
        return "true or false"
    if option.multiple:
        return "list of strings"
    if option.count or isinstance(option.type, click.types.IntParamType):
        return "integer"
    if isinstance(option.type, (click.types.StringParamType, click.Path)):
        return "string"
    return "string" if isinstance(option.type, TargetName) else "string or number"
