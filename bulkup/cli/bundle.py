"""bulkup bundle"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import StateDir
from bulkup.cli.values import completed


@dataclass(frozen=True)
class BundleArgs:
    run: Annotated[str | None, click.Argument(["run"], shell_complete=completed, required=False)]
    out: Annotated[
        Path | None,
        click.Option(
            ["-o", "--out"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write to FILE.  [default: bulkup-RUN.zip]",
        ),
    ]
    with_values: Annotated[
        bool,
        click.Option(
            ["--with-values"],
            is_flag=True,
            help="Include keys, values, parameters and messages unchanged; secrets are removed.",
        ),
    ]
    state_dir: StateDir


@verb(
    "bundle",
    BundleArgs,
    examples=(
        ("bulkup bundle RUN", "a file to attach to a bug report"),
        ("bulkup bundle RUN --with-values -o run.zip", "for a colleague, with all values"),
    ),
)
def command(args: BundleArgs) -> None:
    """Write what is known of a run to one file: events, timings, failures, versions.

    RUN is a run id, or an unambiguous prefix of one. Without RUN: the run that was worked on last.

    Keys, values of parameters and conditions, names of projects and people, log lines and messages
    of exceptions are replaced by hashes, or left out. Kinds, names of files, functions and
    parameters, counts and times stay. Look at it before you publish it: `bulkup show FILE`,
    `bulkup report FILE` and `bulkup logs FILE` read it.
    """
    from bulkup.core.errors import UsageError
    from bulkup.core.output_file import check_replaceable
    from bulkup.report.text import clean, size
    from bulkup.runs.bundle import make_bundle
    from bulkup.runs.bundle_file import is_bundle, write_bundle
    from bulkup.state.files import find_latest, find_run, group_folders

    if args.run is None:
        folder = find_latest(args.state_dir)
    elif folders := group_folders(args.state_dir, args.run):
        raise UsageError(
            f"{args.run} is a group of {len(folders)} runs, and a bundle is of one; name it, such "
            f"as {min(folders).name}"
        )
    else:
        folder = find_run(args.state_dir, args.run)
    if args.out is not None:
        check_replaceable(args.out, is_bundle, "a bundle")
    bundle = make_bundle(folder, with_values=args.with_values)
    out = args.out or Path(f"bulkup-{bundle.run_id}.zip")
    check_replaceable(out, is_bundle, "a bundle")
    written = write_bundle(out, bundle)
    click.echo(clean(str(out)))
    what = "secrets are removed" if args.with_values else "keys, values and texts are redacted"
    click.echo(f"Bundle written ({size(written)}); {what}.", err=True)
    click.echo(f"Look at it first: bulkup show {clean(str(out))}", err=True)
