"""bulkup local load"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.local_file import PartitionArgs, entities, open_local_file, progress_bar, say


@dataclass(frozen=True)
class LoadArgs:
    file: Annotated[str, click.Argument(["file"], type=click.Path(dir_okay=False))]
    data: Annotated[
        str, click.Argument(["data"], type=click.Path(exists=True, dir_okay=False, allow_dash=True))
    ]
    kind: Annotated[
        str,
        click.Option(["--kind"], default="", help="Kind of the entities whose line has no key."),
    ]
    id_field: Annotated[
        str,
        click.Option(
            ["--id-field"],
            default="",
            metavar="NAME",
            help="Member with the id (an integer) or name (a string) of the entity; it remains a "
            "property.  [default: the file assigns ids]",
        ),
    ]
    partition: PartitionArgs


@verb(
    "load",
    LoadArgs,
    short_help="Load lines of JSON into FILE.",
    examples=(
        ("bulkup local load shop.db orders.jsonl --kind Order", "lines without keys"),
        ("bulkup local load shop.db - < dump.jsonl", "what `dump` wrote"),
    ),
)
def load(args: LoadArgs) -> None:
    """Load DATA (JSON, one object per line; - is standard input) into FILE.

    A line is an object of properties, such as {"name": "x", "n": 1}. A member "__key__", such as
    ["Shop", 5, "Product", "x"], gives its key. Or a line is an Entity as in Datastore's REST API:
    {"key": {"path": [...]}, "properties": {"n": {"integerValue": "1"}}}. `dump` writes both forms.
    Strings of more than 1,500 bytes are loaded without an index.

    An entity that exists with the same key is overwritten. Loading stops at the first line that is
    not valid; the lines before it stay loaded.
    """
    from bulkup.local.transfer import STDIN, LoadError, Source, load_all

    path = None if args.data == "-" else Path(args.data)
    size = path.stat().st_size if path and path.is_file() else None
    with (
        click.open_file(args.data, "rb") as stream,
        open_local_file(args.file, args.partition, if_interrupted="nothing was loaded") as target,
        progress_bar("Loading", size) as advance,
    ):
        source = Source(stream, args.data if path else STDIN, args.kind, args.id_field)
        try:
            loaded = load_all(target, source, advance)
        except LoadError as error:
            if not error.needs_kind:
                raise
            raise LoadError(
                f"{error.message} Load again and name the kind: {_with_a_kind(args)}"
            ) from error
    say(f"{entities(loaded.entities)} loaded into {args.file}.")
    if new := loaded.with_new_ids:
        say(
            f"The file assigned an id to {new:,} of them, so loading the same lines again adds "
            "them again; --id-field NAME uses a member of each line as its id."
        )


def _with_a_kind(args: LoadArgs) -> str:
    """The command with a placeholder: what the kind is called, only the user knows."""
    words = ["bulkup", "local", "load", args.file, args.data, "--kind", "KIND"]
    if args.id_field:
        words += ["--id-field", args.id_field]
    for name, default in (("project", "local"), ("database", ""), ("namespace", "")):
        if (value := getattr(args.partition, name)) != default:
            words += [f"--{name}", value]
    return shlex.join(words)
