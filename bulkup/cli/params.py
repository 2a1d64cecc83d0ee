"""bulkup params"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json
from bulkup.cli.values import completed
from bulkup.core.visible import visible

if TYPE_CHECKING:
    from bulkup.authoring.parameters import Parameter


@dataclass(frozen=True)
class ParamsArgs:
    updater: Annotated[str, click.Argument(["updater"], shell_complete=completed)]
    json: Json


@verb(
    "params",
    ParamsArgs,
    examples=(
        ("bulkup params full_name.py", "what -p may set"),
        ("bulkup params full_name.py --json", "the same for programs"),
    ),
)
def command(args: ParamsArgs) -> None:
    """Show the parameters of UPDATER: types, defaults, help."""
    from bulkup.authoring.loader import load
    from bulkup.datastore.containment import Containment, contained

    with contained(Containment(None, dry_run=True, owns_process=True)):
        source = load(args.updater)
    if args.json:
        from bulkup.report.json_lines import stdout_lines

        lines = stdout_lines()
        for p in source.parameters:
            lines.write("param", param_fields(p))
        return
    from bulkup.cli.tables import console, print_table
    from bulkup.report.text import clean

    about = f": {source.description}" if source.description else ""
    click.echo(clean(f"{source.name}{about}"))
    if not source.parameters:
        click.echo("It has no parameters.")
        return
    titles = ("Name", "Type", "Default", "Help")
    rows = [
        (p.name, p.type, "(must be given)" if p.required else visible(p.default_text), p.help)
        for p in source.parameters
    ]
    print_table(console(), titles, rows, wraps=titles)


def param_fields(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "value_type": parameter.type,
        "required": parameter.required,
        "default": None if parameter.required else parameter.default_text,
        "help": parameter.help,
    }
