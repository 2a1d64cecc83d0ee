"""bulkup find"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, Params, TargetArgs
from bulkup.cli.selecting import SelectionArgs, reading
from bulkup.cli.values import WholeNumber, completed
from bulkup.core.errors import StateError

if TYPE_CHECKING:
    from bulkup.datastore.messages import Pb


@dataclass(frozen=True)
class FindArgs:
    updater: Annotated[
        str | None, click.Argument(["updater"], shell_complete=completed, required=False)
    ]
    selection: SelectionArgs
    keys: Annotated[
        bool,
        click.Option(
            ["--keys"],
            is_flag=True,
            help="Print only keys, one per line, as --keys-from takes them.",
        ),
    ]
    limit: Annotated[
        int | None,
        click.Option(
            ["--limit"], type=WholeNumber(min=0), metavar="N", help="Print only the first N."
        ),
    ]
    param: Params
    target: TargetArgs
    json: Json


@verb(
    "find",
    FindArgs,
    examples=(
        ("bulkup find --kind Person --limit 5", "the first five"),
        ("bulkup find full_name.py --keys > keys.txt", "for `bulkup run --keys-from keys.txt`"),
    ),
)
def command(args: FindArgs) -> None:
    """Print the entities that a selection matches, as lines of JSON.

    Each line is an Entity in the form of Datastore's REST API, as `bulkup local dump --lossless`
    writes it and `bulkup local load` reads it. --kind, --ancestor and --where narrow the query of
    UPDATER, as in `bulkup run`; without UPDATER, they select from all entities. Writes nothing.
    """
    from bulkup.datastore.keys import key_text
    from bulkup.local.entity_json import LossError, to_line
    from bulkup.report.json_lines import stdout_lines, stdout_text
    from bulkup.runs.find import find_pages

    text, lines = stdout_text(), stdout_lines() if args.json else None
    with reading(args.updater, args.param, args.selection, args.target, json=args.json) as prepared:
        for page in find_pages(prepared, keys_only=args.keys, limit=args.limit):
            for entity in page:
                # An entity may hold anything: all forms of output escape what would control a
                # terminal.
                try:
                    if lines is not None:
                        lines.write("entity", _fields(entity, keys_only=args.keys))
                    elif args.keys:
                        text.write(key_text(entity.key) + "\n")
                    else:
                        text.write(to_line(entity, lossless=True)[0] + "\n")
                except LossError as error:
                    raise StateError(
                        f"{key_text(entity.key)} cannot be written as JSON: {error}; print the "
                        "keys with --keys"
                    ) from error
            text.flush()


def _fields(entity: Pb, *, keys_only: bool) -> dict[str, object]:
    """Raises LossError."""
    from bulkup.core.typed_key import typed_key
    from bulkup.datastore.keys import key_text
    from bulkup.local.entity_json import lossless_form

    text = key_text(entity.key)
    fields: dict[str, object] = {"key": text, "typed_key": typed_key(text)}
    if not keys_only:
        fields["entity"] = lossless_form(entity)
    return fields
