"""bulkup verify"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import STATE_DIR, AllowEmpty, OutputArgs, Params, TargetArgs
from bulkup.cli.reading_options import ReadingArgs
from bulkup.cli.selecting import SelectionArgs
from bulkup.cli.session import Session
from bulkup.cli.values import completed
from bulkup.core.errors import BulkupError, Exit, StopAskedError

if TYPE_CHECKING:
    from bulkup.core.events import Event


@dataclass(frozen=True)
class VerifyArgs:
    updater: Annotated[str, click.Argument(["updater"], shell_complete=completed)]
    out: Annotated[
        Path | None,
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write the keys that are not done to FILE. If stopped, the same command continues "
            "from FILE.",
        ),
    ]
    selection: SelectionArgs
    param: Params
    target: TargetArgs
    reading: ReadingArgs
    allow_empty: AllowEmpty
    output: OutputArgs


def _fix_command(args: VerifyArgs) -> str:
    """The command that handles the entities whose keys are in the file."""
    words = ["bulkup", "run", args.updater]
    for assignment in args.param:
        words += ["-p", assignment]
    # A list of keys takes the place of the rest of the selection.
    words += ["--kind", args.selection.kind] if args.selection.kind else []
    return shlex.join([*words, *args.target.words(), "--keys-from", str(args.out)])


class _VerifySession(Session):
    def _interrupted(self) -> BulkupError:
        return StopAskedError("stopped at once; nothing was written", Exit.SIGINT)


@verb(
    "verify",
    VerifyArgs,
    examples=(
        ("bulkup verify full_name.py", "exits with 4 if an entity is not done"),
        ("bulkup verify full_name.py --out left.jsonl", "and writes their keys to a file"),
    ),
)
def command(args: VerifyArgs) -> int:
    """Read every entity of UPDATER's query again, and name those that are not done.

    An entity is done if the updater's is_done(entity) says so. Without is_done, it is done if
    handling it again would change nothing. What is not done is read again a second later, so that
    live writers cause no false alarm. Entities created since the start are listed separately.

    Writes nothing, neither in Datastore nor in the run state. Exits with 4 if an entity is not
    done, and with 75 if it stopped at a limit before it found any.
    """
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.runs.context import RunContext
    from bulkup.runs.prepare import prepare
    from bulkup.runs.verify import verify

    with _VerifySession(args.output) as session:

        def listen(event: Event) -> None:
            session.printer(event)

        context = RunContext(
            args.reading.options(),
            STATE_DIR,
            listen,
            allow_empty=args.allow_empty,
            owns_process=True,
            reads_beside=True,
        )
        params = parse_assignments(args.param)
        with prepare(
            args.updater, params, args.target.options(), context,
            selection=args.selection.selection(),
        ) as prepared:  # fmt: skip
            report = verify(prepared, args.out, _fix_command(args))
        if session.page is not None:
            session.page.report(report)
        return report.exit_code
