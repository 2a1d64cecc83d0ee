"""bulkup local dump"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.local_file import (
    PartitionArgs,
    entities,
    only_one,
    open_to_read,
    progress_bar,
    say,
)
from bulkup.cli.values import Name, WholeNumber
from bulkup.core.errors import Exit, StateError, UsageError

if TYPE_CHECKING:
    from bulkup.local.access import ReadableFile

_ADVANCE_EVERY = 500
"""Entities between two updates of the progress bar."""
_NAMES_IN_HINT = 10


@dataclass(frozen=True)
class DumpArgs:
    file: Annotated[str, click.Argument(["file"], type=click.Path(exists=True, dir_okay=False))]
    export: Annotated[
        Path | None,
        click.Option(
            ["--export"],
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="Write a managed export into a new FOLDER, as `gcloud datastore export` does.",
        ),
    ]
    kind: Annotated[
        tuple[str, ...],
        click.Option(
            ["--kind"],
            type=Name(),
            multiple=True,
            help="Dump only entities of this kind; for an export, several can be given.",
        ),
    ]
    limit: Annotated[
        int | None,
        click.Option(
            ["--limit"],
            type=WholeNumber(min=0),
            metavar="N",
            help="Dump only the first N, by key.",
        ),
    ]
    lossless: Annotated[
        bool,
        click.Option(
            ["--lossless"],
            is_flag=True,
            help="Write every entity in the lossless form, for programs.",
        ),
    ]
    partition: PartitionArgs
    json: Annotated[
        bool,
        click.Option(
            ["--json"],
            is_flag=True,
            help="Print what was dumped with --export as JSON, one object per line.",
        ),
    ]


@verb(
    "dump",
    DumpArgs,
    short_help="Write the entities of FILE as JSON or as a managed export.",
    examples=(
        ("bulkup local dump shop.db > dump.jsonl", "all of them"),
        ("bulkup local dump shop.db --export EXPORT", "as a managed export"),
    ),
)
def dump(args: DumpArgs) -> None:
    """Write the entities of FILE to standard output as JSON, one object per line, or write them
    into a folder as a managed export.

    An entity that plain JSON can represent is an object of its properties, with its key as
    "__key__". Any other (it holds a timestamp, say, or a property without an index) is written as
    an Entity of Datastore's REST API. `load` restores exactly the same entity from either form.

    With --export, all namespaces are dumped, unless --namespace names some. FOLDER appears when it
    is complete. Google's emulators can import it, and so can `bulkup local load --from-export`.

    The run records that bulkup keeps beside the data are left out, unless --kind names them.
    """
    if args.export is not None:
        _dump_export(args, args.export)
    elif args.json:
        raise UsageError(
            "--json is for --export; leave it out: without --export, the entities are printed, as "
            "JSON"
        )
    else:
        _dump_lines(args)


def _dump_export(args: DumpArgs, folder: Path) -> None:
    from bulkup.cli.local_load_export import no_entity
    from bulkup.local.dumping import dump_export
    from bulkup.report.json_lines import stdout_lines
    from bulkup.state.kinds import OWN_KINDS

    lines = stdout_lines() if args.json else None
    # An open file has one namespace. Here, each call names the namespaces itself.
    place = replace(args.partition, namespace=args.partition.namespace[:1])
    with open_to_read(args.file, place, if_interrupted=f"nothing is left of {folder}") as source:
        total = None
        if sys.stderr.isatty() and not args.json:
            total = source.count_all(args.kind, args.partition.namespace)
        with progress_bar("Dumping", total, shown=not args.json) as advance:
            dumped = dump_export(
                source,
                folder,
                kinds=args.kind,
                namespaces=args.partition.namespace,
                leave_out=OWN_KINDS,
                watch=lambda written: advance(written, written),
            )
    if lines is not None:
        lines.write("dumped", {"file": args.file, "folder": str(folder), **asdict(dumped)})
        return
    say(f"{entities(dumped.entities)} dumped into {folder}.")
    for kind in dumped.empty_kinds:
        say(no_entity(kind, "dumped"))
    if dumped.left_out:
        say(f"{dumped.left_out:,} run records of bulkup were left out (--kind dumps them).")


def _dump_lines(args: DumpArgs) -> None:
    from bulkup.local.transfer import dump as dump_all
    from bulkup.state.kinds import OWN_KINDS

    kind = only_one(args.kind, "--kind")

    written = lossless = 0
    with (
        open_to_read(
            args.file, args.partition, if_interrupted="the output is not complete"
        ) as source,
        _output() as write,
    ):
        # On a terminal the lines themselves show the progress.
        on_terminal = sys.stdout.isatty()
        total = None if on_terminal or not sys.stderr.isatty() else source.count(kind)
        with progress_bar("Dumping", total, shown=not on_terminal) as advance:
            for line, is_lossless in dump_all(
                source,
                kind,
                lossless=args.lossless,
                limit=args.limit,
                leave_out=OWN_KINDS,
            ):
                write(line)
                written += 1
                lossless += is_lossless
                if not written % _ADVANCE_EVERY:
                    advance(written, written)
        hint = "" if written else _what_else(source, kind)
    form = f", {lossless:,} of them in the lossless form" if lossless and not args.lossless else ""
    say(f"{entities(written)} dumped{form}.{hint}")


def _what_else(file: ReadableFile, kind: str) -> str:
    """A hint on where there are entities, for a user who has found none."""
    kinds = file.names("__kind__")
    if kind and kinds and kind not in kinds:
        shown = ", ".join(kinds[:_NAMES_IN_HINT])
        return f" There is none of kind {kind!r} here; kinds are: {shown}."
    namespaces = [name for name in file.names("__namespace__") if name != file.place.namespace]
    if not kinds and namespaces:
        shown = ", ".join(namespaces[:_NAMES_IN_HINT])
        return f" Namespaces with entities: {shown} (--namespace)."
    return ""


@contextmanager
def _output() -> Iterator[Callable[[str], object]]:
    """Writes lines to standard output, in UTF-8 in every locale."""
    out = sys.stdout.buffer
    try:
        yield lambda line: out.write(line.encode() + b"\n")
        out.flush()
    except BrokenPipeError:
        # `dump | head`: the reader has what it wants. Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise click.exceptions.Exit(Exit.FAILED) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise StateError(
            f"cannot write to standard output ({error.strerror}); the output is not complete"
        ) from error
