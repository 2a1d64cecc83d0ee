"""Commands that get their parsed options as one frozen dataclass.

    @dataclass(frozen=True)
    class ListArgs:
        state_dir: Annotated[Path, click.Option(["--state-dir"], default=".bulkup", help="...")]
        output: OutputArgs

    @verb("list", ListArgs)
    def command(args: ListArgs) -> None: ...

The annotation of a field says how click parses it. A field whose type is itself such a dataclass is
a group of options that several commands share. Groups cannot be nested. `--help` shows them in the
order of the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import click

from bulkup.cli.contradictions import settle
from bulkup.cli.help_page import Examples, HelpPage
from bulkup.cli.next_steps import remember_typed
from bulkup.cli.settings import (
    bound_to_settings,
    defaults_from,
    load_settings,
    misspelled,
    variable_of,
)

Args = TypeVar("Args")


class ArgsCommand(HelpPage):
    """Calls its callback with the parsed options as `args`."""

    def __init__(self, name: str, args_type: type[Any], **attributes: Any) -> None:
        self._args_type = args_type
        self._groups: dict[str, tuple[type[Any], list[str]]] = {}
        """By field: the dataclass of an option group, and the names of its options."""
        given: list[tuple[click.Parameter, type[Any] | None]] = []
        for field, hint in get_type_hints(args_type, include_extras=True).items():
            if get_origin(hint) is Annotated:
                members, group = {field: hint}, None
            else:
                members, group = get_type_hints(hint, include_extras=True), hint
                self._groups[field] = hint, [*members]
            for member in members.values():
                given += [(param, group) for param in member.__metadata__]
        params, self.keys, shared = bound_to_settings(name, given)
        """`keys`: the key of the configuration file that sets each parameter; None if there is
        none."""
        super().__init__(name, params=params, **attributes)
        self.shared |= shared

    def parse_values(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse options and arguments into `ctx.params`, with the precedence that `settings`
        describes.

        Raises click.UsageError; UsageError for a configuration file that is not valid.
        """
        # A help page must not need a valid configuration file. Nor must completion, which parses
        # incomplete lines, fail if the file is not valid.
        if not (ctx.resilient_parsing or any(arg in ctx.help_option_names for arg in args)):
            ctx.default_map = defaults_from(load_settings(ctx), self.keys)
        try:
            rest = super().parse_args(ctx, args)
        except click.BadParameter as error:
            self._say_where_from(error, ctx)
            raise
        if not ctx.resilient_parsing:
            settle(ctx)
            remember_typed(ctx)
            self._warn_of_misspelled_variable(ctx)
            if ctx.obj is not None and "verbose" in ctx.params:
                ctx.obj["verbose"] = bool(ctx.params["verbose"])
        return rest

    def _warn_of_misspelled_variable(self, ctx: click.Context) -> None:
        group = ctx.parent.command if ctx.parent is not None else None
        if isinstance(group, click.Group):
            warning = misspelled(self, self.keys, group.list_commands(ctx))
            if warning:
                from bulkup.report.text import clean

                click.echo(clean(f"Warning: {warning}"), err=True)

    def _say_where_from(self, error: click.BadParameter, ctx: click.Context) -> None:
        """Say in the error where the value of an option comes from if it was not typed."""
        param = error.param
        if param is None or param.name not in self.keys:
            return
        where, source = "", ctx.get_parameter_source(str(param.name))
        if source is click.core.ParameterSource.ENVIRONMENT:
            where = variable_of(str(self.name), param, self.keys[str(param.name)])
        elif source is click.core.ParameterSource.DEFAULT_MAP:
            where = load_settings(ctx).source
        if where:
            error.param_hint = f"{param.get_error_hint(ctx)} from {where}"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = self.parse_values(ctx, args)
        if not ctx.resilient_parsing:
            values = ctx.params
            groups = {
                field: group(**{option: values.pop(option) for option in options})
                for field, (group, options) in self._groups.items()
            }
            parsed = self._args_type(**values, **groups)
            ctx.params = {"args": parsed}
            if wants_json(parsed):
                from bulkup.report.json_lines import json_stdout

                json_stdout()  # before any of the user's code is imported
        return rest


def wants_json(args: object) -> bool:
    """Whether --json was given, as a separate option or as one of `OutputArgs`."""
    return bool(getattr(args, "json", False) or getattr(getattr(args, "output", 0), "json", False))


def verb(
    name: str, args_type: type[Args], *, short_help: str | None = None, examples: Examples = ()
) -> Callable[[Callable[[Args], int | None]], ArgsCommand]:
    """Turn a function into a command; its docstring is the help page."""

    def decorate(function: Callable[[Args], int | None]) -> ArgsCommand:
        return ArgsCommand(
            name,
            args_type,
            callback=function,
            help=function.__doc__,
            short_help=short_help,
            examples=examples,
        )

    return decorate
