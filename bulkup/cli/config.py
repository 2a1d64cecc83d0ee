"""bulkup config"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import click

from bulkup.cli.args import ArgsCommand
from bulkup.cli.config_keys import Settings
from bulkup.cli.help_page import HelpPage
from bulkup.cli.named_target import NamedTarget, check_chosen
from bulkup.cli.settings import load_settings, variable_of
from bulkup.core.secrets import without_secrets
from bulkup.core.visible import assignment

COMMANDS = ("run", "plan", "resume", "migrate", "status", "mark", "unlock", "list", "show")
"""Commands whose settings `bulkup config` can show."""


@dataclass(frozen=True)
class Setting:
    name: str
    """As in the configuration file."""
    option: str
    value: Any
    source: str
    """`command line`, `environment`, `file`, `target` (the named one), or `default`."""
    where: str
    """The variable, the file or the target."""


@click.command(
    "config",
    cls=HelpPage,
    examples=(
        ("bulkup config", "the settings of `bulkup run`"),
        ("bulkup config migrate --target prod", "of another command, with options"),
    ),
    context_settings={"ignore_unknown_options": True},
    options_metavar="",
)
@click.option("--json", is_flag=True, help="Print JSON, one object per line.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [OPTION]...")
@click.pass_context
def command(ctx: click.Context, json: bool, words: tuple[str, ...]) -> None:
    """Show which settings are in force, and where each comes from.

    COMMAND is the command they are for, by default run; OPTIONs are what you would type after it.
    The command line overrides environment variables; they override the configuration file, and
    that overrides the defaults.

    The configuration file is bulkup.toml, or the table [tool.bulkup] of pyproject.toml: the nearest
    one from the current directory upwards, but not above the repository or your home directory.
    BULKUP_CONFIG names another file. `bulkup help config` explains what it may hold.
    """
    name, rest = "run", list(words)
    if rest and rest[0] in COMMANDS:
        name = rest.pop(0)
    settings = load_settings(ctx)
    found = list(_in_force(name, rest, settings, ctx))
    if json:
        _print_json(name, found, settings)
    else:
        _print(name, found, settings)


def _in_force(
    name: str, words: list[str], settings: Settings, ctx: click.Context
) -> Iterator[Setting]:
    original: ArgsCommand = import_module(f"bulkup.cli.{name}").command
    inner = copy.copy(original)
    inner.params = []
    for param in original.params:
        param = copy.copy(param)
        if isinstance(param, click.Argument):
            param.required = False  # an argument is not needed to show settings
        inner.params.append(param)
    parent = ctx.parent
    context = click.Context(
        inner,
        info_name=name,
        parent=parent,
        auto_envvar_prefix=f"BULKUP_{name.upper()}",
    )
    with context:
        inner.parse_values(context, words)
        check_chosen(context)
        named: NamedTarget | None = context.params.get("target")
        for param in inner.params:
            key = inner.keys[str(param.name)]
            if key is not None:
                yield _setting(key, inner, param, context, settings, named)


def _setting(
    key: str,
    inner: ArgsCommand,
    param: click.Parameter,
    ctx: click.Context,
    settings: Settings,
    named: NamedTarget | None,
) -> Setting:
    name = str(param.name)
    value, source = ctx.params.get(name), ctx.get_parameter_source(name)
    option = max(param.opts, key=len) if isinstance(param, click.Option) else "DIR"
    if named is not None and value is None and getattr(named, name, None) is not None:
        return Setting(key, option, getattr(named, name), "target", named.name)
    if source is click.core.ParameterSource.COMMANDLINE:
        return Setting(key, option, value, "command line", "")
    if source is click.core.ParameterSource.ENVIRONMENT:
        variable = variable_of(str(inner.name), param, inner.keys[name])
        return Setting(key, option, value, "environment", variable)
    if source is click.core.ParameterSource.DEFAULT_MAP:
        written = str(value) if key == "webhook" else settings.values[key]  # it is a secret
        return Setting(key, option, written, "file", settings.source)
    typed = param.default if isinstance(param.default, str) else value  # `auto` becomes None
    return Setting(key, option, typed, "default", "")


def _as_json(value: Any) -> Any:
    if isinstance(value, NamedTarget):
        return value.name
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return list(value) if isinstance(value, tuple) else without_secrets(str(value))


def _print_json(name: str, found: list[Setting], settings: Settings) -> None:
    from bulkup.report.json_lines import stdout_lines

    targets = {target: asdict(value) for target, value in settings.targets.items()}
    head = {"command": name, "file": settings.source, "targets": targets,
            "migration_params": settings.migration_params, "prices": settings.prices}  # fmt: skip
    lines = stdout_lines()
    lines.write("config", head)
    for setting in found:
        lines.write("setting", {**asdict(setting), "value": _as_json(setting.value)})


def _print(name: str, found: list[Setting], settings: Settings) -> None:
    from bulkup.cli.tables import console, print_table
    from bulkup.report.text import clean

    click.echo(clean(f"Configuration file: {settings.source or 'none'}"))
    click.echo(f"Settings of `bulkup {name}`:")
    rows = [
        (setting.name, _shown(setting.value), f"{setting.source} {_where(setting)}".strip())
        for setting in found
    ]
    print_table(console(160), ("Setting", "Value", "From"), rows, wraps=("Value", "From"))
    if settings.targets:
        click.echo("Targets:")
        rows = [(target.name, str(target), "") for target in settings.targets.values()]
        print_table(console(160), ("Name", "What", ""), rows, wraps=("What",))
    for migration, params in settings.migration_params.items():
        assignments = ", ".join(assignment(key, value) for key, value in params.items())
        click.echo(clean(f"Parameters of migration {migration}: {assignments}"))
    if settings.prices:
        assignments = ", ".join(assignment(key, str(v)) for key, v in settings.prices.items())
        click.echo(clean(f"Prices of `bulkup plan`: {assignments}"))


def _where(setting: Setting) -> str:
    return "" if setting.source == "file" else setting.where


def _shown(value: Any) -> str:
    value = _as_json(value)
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g} s"
    return ", ".join(value) if isinstance(value, list) else str(value)
