"""bulkup new"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.config_keys import MIGRATIONS
from bulkup.cli.options import MIGRATIONS_DIR, TargetArgs, folder_option, given_options
from bulkup.cli.settings import current_settings
from bulkup.core.errors import UsageError

if TYPE_CHECKING:
    from bulkup.authoring.scaffold_source import Sample


@dataclass(frozen=True)
class NewArgs:
    name: Annotated[str, click.Argument(["name"])]
    kind: Annotated[
        str | None,
        click.Option(
            ["--kind"],
            help="Kind of the entities to change.  [default: YourKind, which you replace]",
        ),
    ]
    is_class: Annotated[
        bool,
        click.Option(
            ["--class", "is_class"],
            is_flag=True,
            envvar="BULKUP_NEW_CLASS",
            help="Write a class, which may have its own query, several writes and a final hook.",
        ),
    ]
    migration: Annotated[
        bool,
        click.Option(
            ["--migration"],
            is_flag=True,
            help="Put it into the folder of the migrations, with the next number.",
        ),
    ]
    from_datastore: Annotated[
        bool,
        click.Option(
            ["--from-datastore"],
            is_flag=True,
            help="Look at 20 entities of the kind, and write down their properties and types.",
        ),
    ]
    folder: Annotated[
        Path | None,
        folder_option("Folder to write to.  [default: this one; with --migration updaters]"),
    ]
    target: TargetArgs


@verb(
    "new",
    NewArgs,
    examples=(
        ("bulkup new add_full_name --kind Person", "add_full_name.py and its test"),
        ("bulkup new add_city --kind Person --migration", "updaters/0001_add_city.py"),
    ),
)
def command(args: NewArgs) -> None:
    """Write a new updater NAME and its test, side by side.

    The test passes as it is written. Change the updater, then the test, then run it on a copy of
    your data. No file is overwritten.

    --from-datastore reads a few entities, and writes the names and the types of their properties
    into the updater, but none of their values.
    """
    from bulkup.authoring.scaffold import check_free, scaffold, write_new
    from bulkup.authoring.scaffold_source import PLACEHOLDER_KIND, NewUpdater
    from bulkup.report.text import clean

    folder, number = args.folder or Path(), ""
    if args.migration:
        from bulkup.migrations.folder import number_of_new

        folder = args.folder or _migrations_folder()
        number = number_of_new(folder, args.name)
    new = NewUpdater(args.name, PLACEHOLDER_KIND if args.kind is None else args.kind, args.is_class)
    files = scaffold(new, folder, number)
    check_free(files)  # before a Datastore is asked
    if args.from_datastore:
        files = scaffold(replace(new, sample=_sample(args)), folder, number)
    elif typed := given_options(TargetArgs):
        raise UsageError(
            f"{typed[0]} says where --from-datastore looks; add --from-datastore, or leave it out"
        )
    write_new(files)
    updater, test = (str(path) for path in files)
    click.echo(clean(f"Wrote {updater} and {test}."))
    click.echo(clean(f"Next: {shlex.join(['pytest', test])}"))


def _migrations_folder() -> Path:
    """The folder of `bulkup migrate`: from the environment, the configuration file, or the
    default."""
    configured = current_settings().values.get(MIGRATIONS)
    return Path(os.environ.get("BULKUP_MIGRATIONS") or configured or MIGRATIONS_DIR)


def _sample(args: NewArgs) -> Sample:
    from bulkup.runs.kind_sample import sample_of_kind

    if args.kind is None:
        raise UsageError("--from-datastore needs --kind, the kind of entities to look at")
    return sample_of_kind(args.kind, args.target.options())
