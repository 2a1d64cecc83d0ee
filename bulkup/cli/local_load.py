"""bulkup local load"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.local_file import (
    PartitionArgs,
    entities,
    only_one,
    open_local_file,
    progress_bar,
    say,
)
from bulkup.cli.options import Json
from bulkup.cli.values import Name, Sample
from bulkup.core.errors import UsageError


@dataclass(frozen=True)
class LoadArgs:
    file: Annotated[str, click.Argument(["file"], type=click.Path(dir_okay=False))]
    data: Annotated[
        str | None,
        click.Argument(
            ["data"],
            type=click.Path(exists=True, dir_okay=False, allow_dash=True),
            required=False,
        ),
    ]
    from_export: Annotated[
        str | None,
        click.Option(
            ["--from-export"],
            metavar="PATH",
            help="Load a managed export into a new FILE: its folder, its .overall_export_metadata "
            "file, or a gs:// address of either.",
        ),
    ]
    kind: Annotated[
        tuple[str, ...],
        click.Option(
            ["--kind"],
            type=Name(),
            multiple=True,
            help="Kind of the entities whose line has no key. Of an export, load only entities of "
            "this kind; several can be given.",
        ),
    ]
    sample: Annotated[
        float | None,
        click.Option(
            ["--sample"],
            type=Sample(),
            metavar="PERCENT",
            help="Load a sample of an export, such as 1%: always the same whole entity groups.",
        ),
    ]
    replace: Annotated[
        bool,
        click.Option(
            ["--replace"],
            is_flag=True,
            help="Put the export in the place of FILE, whatever FILE holds.",
        ),
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
    json: Json


@verb(
    "load",
    LoadArgs,
    short_help="Load lines of JSON or a managed export into FILE.",
    examples=(
        ("bulkup local load shop.db orders.jsonl --kind Order", "lines without keys"),
        ("bulkup local load shop.db --from-export EXPORT", "what `gcloud datastore export` wrote"),
    ),
)
def load(args: LoadArgs) -> None:
    """Load DATA (JSON, one object per line; - is standard input) into FILE, or load a managed
    export into a new FILE.

    A line is an object of properties, such as {"name": "x", "n": 1}. A member "__key__", such as
    ["Shop", 5, "Product", "x"], gives its key. Or a line is an Entity as in Datastore's REST API:
    {"key": {"path": [...]}, "properties": {"n": {"integerValue": "1"}}}. `dump` writes both forms.
    Strings of more than 1,500 bytes are loaded without an index.

    An entity that exists with the same key is overwritten. Loading stops at the first line that is
    not valid; the lines before it stay loaded.

    With --from-export, all kinds and namespaces are loaded, into the project and database named
    here. FILE appears when it is complete; until then the data is in FILE-loading beside it.
    After an interruption, the same command resumes.
    """
    if args.from_export is not None:
        _load_export(args, args.from_export)
    elif args.data is not None:
        _load_lines(args, args.data)
    else:
        raise UsageError("there is nothing to load; name a file of JSON lines, or --from-export")


def _load_export(args: LoadArgs, source: str) -> None:
    from bulkup.cli.local_load_export import load_from_export
    from bulkup.local.exports.place import Database
    from bulkup.local.importing.load import Destination
    from bulkup.local.importing.selection import Selection

    selection = Selection(args.kind, args.partition.namespace, args.sample)
    place = Database(args.partition.project, args.partition.database)
    destination = Destination(place, args.replace)
    load_from_export(args.file, source, selection, destination, json=args.json)


def _load_lines(args: LoadArgs, data: str) -> None:
    from bulkup.local.transfer import STDIN, LoadError, Source, load_all
    from bulkup.report.json_lines import stdout_lines

    for option, given in (("--sample", args.sample is not None), ("--replace", args.replace)):
        if given:
            raise UsageError(f"{option} is for exports only; leave it out, or use --from-export")
    lines = stdout_lines() if args.json else None
    path = None if data == "-" else Path(data)
    size = path.stat().st_size if path and path.is_file() else None
    kind = only_one(args.kind, "--kind")
    with (
        click.open_file(data, "rb") as stream,
        open_local_file(args.file, args.partition, if_interrupted="nothing was loaded") as target,
        progress_bar("Loading", size, shown=not args.json) as advance,
    ):
        source = Source(stream, data if path else STDIN, kind, args.id_field)
        try:
            loaded = load_all(target, source, advance)
        except LoadError as error:
            if not error.needs_kind:
                raise
            raise LoadError(
                f"{error.message} Load again and name the kind: {_with_a_kind(args, data)}"
            ) from error
    if lines is not None:
        lines.write("loaded", {"file": args.file, "source": data, **asdict(loaded), "export": None})
        return
    say(f"{entities(loaded.entities)} loaded into {args.file}.")
    if new := loaded.with_new_ids:
        say(
            f"The file assigned an id to {new:,} of them, so loading the same lines again adds "
            "them again; --id-field NAME uses a member of each line as its id."
        )


def _with_a_kind(args: LoadArgs, data: str) -> str:
    """The command with a placeholder for the kind, which only the user knows."""
    words = ["bulkup", "local", "load", args.file, data, "--kind", "KIND"]
    if args.id_field:
        words += ["--id-field", args.id_field]
    place = args.partition
    for name, value, default in (
        ("project", place.project, "local"),
        ("database", place.database, ""),
        ("namespace", place.one_namespace(), ""),
    ):
        if value != default:
            words += [f"--{name}", value]
    return shlex.join(words)
