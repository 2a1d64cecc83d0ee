"""Commands that get their parsed options as one frozen dataclass.

    @dataclass(frozen=True)
    class ListArgs:
        state_dir: Annotated[Path, click.Option(["--state-dir"], default=".bulkup", help="...")]
        output: OutputArgs

    @verb("list", ListArgs)
    def command(args: ListArgs) -> None: ...

The annotation of a field says how click parses it. A field whose type is such a dataclass itself
is a group of options that several commands share. `--help` shows them in the order of the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import click

Args = TypeVar("Args")


class ArgsCommand(click.Command):
    """Calls its callback with the parsed options as `args`."""

    def __init__(self, name: str, args_type: type[Any], **attributes: Any) -> None:
        super().__init__(name, params=_parameters(args_type), **attributes)
        self._args_type = args_type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # in shell completion, which parses incomplete lines
            ctx.params = {"args": _build(self._args_type, ctx.params)}
        return rest


def verb(
    name: str, args_type: type[Args], *, short_help: str | None = None
) -> Callable[[Callable[[Args], int | None]], ArgsCommand]:
    """Make a command of a function; its docstring is the help page."""

    def decorate(function: Callable[[Args], int | None]) -> ArgsCommand:
        return ArgsCommand(
            name, args_type, callback=function, help=function.__doc__, short_help=short_help
        )

    return decorate


def _parameters(args_type: type[Any]) -> list[click.Parameter]:
    found: list[click.Parameter] = []
    for hint in get_type_hints(args_type, include_extras=True).values():
        if get_origin(hint) is Annotated:
            (parameter,) = hint.__metadata__
            found.append(parameter)
        else:
            found += _parameters(hint)
    return found


def _build(args_type: type[Any], values: dict[str, Any]) -> Any:
    parts = {}
    for name, hint in get_type_hints(args_type, include_extras=True).items():
        is_group = get_origin(hint) is not Annotated
        parts[name] = _build(hint, values) if is_group else values[name]
    return args_type(**parts)
