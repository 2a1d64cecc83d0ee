"""The page of commands: their options, with defaults and environment variables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from bulkup.cli import cli
from bulkup.cli.help_page import SECTIONS, HelpPage
from docs.reference.text import Missing, cell, code, table

HEADERS = ("option", "what it does", "default", "environment")
INTRODUCTION = """\
# Commands and options

`bulkup COMMAND --help` shows the same on a terminal. What is typed wins over the environment, and
that over [the configuration file](../configuration.md). Flags are set by `1` or `true`."""

SHARED = """\
## Shared options

Several commands have these, with the same meaning. `BULKUP_BATCH_SIZE` sets one of them for every
command, `BULKUP_RUN_BATCH_SIZE` for `bulkup run` alone, which wins. The [configuration
file](settings.md) sets them, too."""

_DEFAULT = re.compile(r"\s*\[default: ([^]]*)\]\s*$")


def commands() -> Iterator[click.Context]:
    """Every command, with those of a group after it."""
    yield from _below(click.Context(cli, info_name="bulkup", auto_envvar_prefix="BULKUP"))


def _below(context: click.Context) -> Iterator[click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield inner
        if isinstance(command, click.Group):
            yield from _below(inner)


def page() -> str:
    return "\n\n".join([INTRODUCTION, *_all_shared(), *_all_commands()]) + "\n"


def _all_commands() -> Iterator[str]:
    for context in commands():
        yield from _command(context)


def _command(context: click.Context) -> Iterator[str]:
    command, path = context.command, context.command_path
    if not command.help:
        raise Missing(f"`{path}` has no docstring")
    yield f"## {path}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{path} {usage}\n```"
    yield inspect.cleandoc(command.help)
    if isinstance(command, HelpPage) and command.examples:
        yield "\n".join(f"- `{example}`: {what}" for example, what in command.examples)
    own = [option for option in _options(context) if not _is_shared(command, option)]
    if own:
        yield table(HEADERS, (_row(context, option) for option in own))
    shared = [option for option in _options(context) if _is_shared(command, option)]
    if shared:
        listed = ", ".join(code(max(option.opts, key=len)) for option in shared)
        yield f"Also the [shared options](#shared-options) {listed}."


def _all_shared() -> Iterator[str]:
    found: dict[str, tuple[click.Context, click.Option]] = {}
    for context in commands():
        for option in _options(context):
            if _is_shared(context.command, option):
                found.setdefault(str(option.name), (context, option))
    yield SHARED
    in_sections = {name for _, names in SECTIONS for name in names}
    others = tuple(name for name in found if name not in in_sections)
    for title, names in (*SECTIONS, ("Others", others)):
        rows = [found[name] for name in names if name in found]
        if rows:
            yield f"### {title}"
            yield table(HEADERS, (_shared_row(*row) for row in rows))


def _options(context: click.Context) -> list[click.Option]:
    """Those that a user sets; every command has --help."""
    return [p for p in context.command.params if isinstance(p, click.Option) and not p.hidden]


def _is_shared(command: click.Command, option: click.Option) -> bool:
    return isinstance(command, HelpPage) and option.name in command.shared


def _row(context: click.Context, option: click.Option) -> tuple[str, str, str, str]:
    return _cells(context, option, environment(context, option))


def _shared_row(context: click.Context, option: click.Option) -> tuple[str, str, str, str]:
    """Without the variable of the one command."""
    return _cells(context, option, [environment(context, option)[1]])


def _cells(
    context: click.Context, option: click.Option, names: list[str]
) -> tuple[str, str, str, str]:
    record = option.get_help_record(context)
    if record is None or not option.help:
        raise Missing(f"`{context.command_path} {option.opts[0]}` has no help")
    text, default = without_default(option.help)
    default = default or (str(option.default) if option.show_default is True else "")
    text += _range(option.type)
    return code(record[0]), cell(text), cell(default), ", ".join(map(code, names))


def _range(type_: object) -> str:
    if not isinstance(type_, click.IntRange):
        return ""
    return f" {type_.min} or more." if type_.max is None else f" From {type_.min} to {type_.max}."


def without_default(text: str) -> tuple[str, str]:
    """A help text, and the default that some of them end with."""
    found = _DEFAULT.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


def environment(context: click.Context, option: click.Option) -> list[str]:
    """The variables that set an option of a command, the strongest first."""
    own = f"{context.auto_envvar_prefix}_{option.name}".upper()
    bound = option.envvar or []
    return list(dict.fromkeys([*([bound] if isinstance(bound, str) else bound), own]))
