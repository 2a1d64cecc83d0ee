"""bulkup updaters"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.options import FolderArgs, Json
from bulkup.cli.params import param_fields
from bulkup.core.errors import NotFoundError
from bulkup.core.visible import assignment, visible

if TYPE_CHECKING:
    from bulkup.authoring.found_updaters import FoundUpdater


@dataclass(frozen=True)
class UpdatersArgs:
    folder: FolderArgs
    json: Json


@verb(
    "updaters",
    UpdatersArgs,
    examples=(
        ("bulkup updaters", "the built-in ones, and those in updaters/"),
        ("bulkup updaters jobs", "the built-in ones, and those in jobs/"),
    ),
)
def command(args: UpdatersArgs) -> None:
    """List the built-in updaters, and those in the Python files of DIR, with their parameters.

    The files are loaded to find out, without any Datastore. One that cannot be loaded is listed
    with its error.
    """
    from bulkup.authoring.found_updaters import built_in_updaters, updaters_in
    from bulkup.datastore.containment import Containment, contained

    folder = args.folder.path
    if args.folder.is_typed and not folder.is_dir():
        raise NotFoundError(f"there is no folder {visible(str(folder))}; check its path")
    with contained(Containment(None, dry_run=True, owns_process=True)):
        built_in, found = list(built_in_updaters()), list(updaters_in(folder))
    if args.json:
        from bulkup.report.json_lines import stdout_lines

        lines = stdout_lines()
        for one in (*built_in, *found):
            lines.write("updater", _to_json(one))
        return
    _print("Built-in updaters, for the entities that --kind selects", built_in)
    click.echo()
    _print_found(folder, found)


def _print_found(folder: Path, found: list[FoundUpdater]) -> None:
    from bulkup.report.text import clean

    where = clean(visible(str(folder)))
    if found:
        _print(f"Updaters in {where}", found)
    elif folder.is_dir():
        click.echo(f"There are no updaters in {where}.")
    else:
        click.echo(f"There is no folder {where}; name another one with `bulkup updaters DIR`.")


def _print(title: str, updaters: Iterable[FoundUpdater]) -> None:
    from bulkup.cli.tables import console, print_table

    click.echo(title)
    titles = ("Name", "What it does", "Parameters")
    rows = [
        (visible(one.spec), f"Error: {one.error}", "")
        if one.source is None
        else (visible(one.spec), one.source.description, _parameters_text(one))
        for one in updaters
    ]
    print_table(console(), titles, rows, wraps=titles)


def _parameters_text(one: FoundUpdater) -> str:
    """The required parameters, then the others with their defaults: `to, sep=-`."""
    assert one.source is not None
    parameters = one.source.parameters
    needed = [visible(p.name) for p in parameters if p.required]
    return ", ".join(
        needed
        + [
            assignment(p.name, p.default_text)
            for p in parameters
            # A built-in updater gets its kind from `--kind`, as the title says.
            if not (p.required or (one.is_built_in and p.name == "kind"))
        ]
    )


def _to_json(one: FoundUpdater) -> dict[str, Any]:
    source = one.source
    return {
        "spec": one.spec,
        "name": source.name if source else "",
        "description": source.description if source else "",
        "built_in": one.is_built_in,
        "path": source.path if source else "",
        "parameters": [param_fields(p) for p in source.parameters] if source else [],
        "error": one.error,
    }
