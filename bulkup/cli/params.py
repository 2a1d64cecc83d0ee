"""bulkup params"""

from __future__ import annotations

import json
from typing import Any

import click

from bulkup.cli import options


@click.command("params")
@click.argument("updater")
@options.json_lines
def command(updater: str, **given: Any) -> None:
    """Show the parameters of UPDATER: types, defaults, help."""
    from bulkup.authoring.loader import load
    from bulkup.report.text import clean

    source = load(updater)
    if given["json"]:
        for p in source.parameters:
            fact = {"type": "param", "name": p.name, "value_type": p.type, "required": p.required}
            fact |= {"default": None if p.required else p.default_text, "help": p.help}
            click.echo(json.dumps(fact))
        return
    about = f": {source.description}" if source.description else ""
    click.echo(clean(f"{source.name}{about}"))
    if not source.parameters:
        click.echo("It has no parameters.")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("Name", "Type", "Default", "Help", box=box.SIMPLE_HEAD, pad_edge=False)
    for p in source.parameters:
        default = "(must be given)" if p.required else p.default_text
        cells = (p.name, p.type, default, p.help)
        table.add_row(*(Text(clean(cell)) for cell in cells))
    Console(highlight=False).print(table)
