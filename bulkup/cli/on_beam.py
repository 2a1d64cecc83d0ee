"""`bulkup run --on beam`: its options, and those that cannot be used with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated

import click

from bulkup.core.errors import UsageError

On = Annotated[
    str | None,
    click.Option(
        ["--on"],
        type=click.Choice(["beam"]),
        help="Have the workers of an Apache Beam pipeline do the work (needs the extra `beam`). "
        "Beam's options come after `--`.",
    ),
]
RunnerArgs = Annotated[
    tuple[str, ...],
    click.Argument(
        ["runner_args"],
        nargs=-1,
        type=click.UNPROCESSED,
        required=False,
        metavar="[-- BEAM_OPTIONS]",
    ),
]


_REFUSED = {
    "--local": "other machines do not reach a file; serve it with `bulkup local serve`",
    "--dry-run": "a dry run works on this machine; leave out --on beam",
    "--all-namespaces": "run each namespace with --namespace NAME",
    "--namespaces": "run each namespace with --namespace NAME",
    "--keys-from": "only a query can be cut into ranges",
    "--until-clean": "it repeats a run on one machine; leave out --on beam",
    "--limit": "no process knows what the others have handled",
    "--max-time": "it is the time of one process; stop the run with `bulkup cancel`",
    "--processes": "the runner starts processes itself; its own options say how many",
    "--health-url": "the workers would ask it, too, and a job that is stored would hold it",
    "--health-cmd": "it is a command of this machine; use `bulkup pause`",
    "--no-record": "the records alone tell what is done",
    "--trace": "it is about one process",
}


def check_on_beam(on: str | None, runner_args: Sequence[str], given: Mapping[str, bool]) -> None:
    """Refuse what cannot be done on Beam, before anything is opened. `given`: for each option that
    may be refused, whether it was given. Raises click.UsageError, UsageError."""
    first = runner_args[0] if runner_args else ""
    if first and on is None:
        raise click.UsageError(
            f"got unexpected extra argument {first!r}; Beam's options, after `--`, need --on beam"
        )
    if first and not first.startswith("-"):
        raise click.UsageError(
            f"got unexpected extra argument {first!r}; after `--` come Beam's options, such as "
            "--runner=DataflowRunner"
        )
    if on is None:
        return
    for option, why in _REFUSED.items():
        if given[option]:
            raise click.UsageError(f"--on beam does not work with {option}: {why}")
    if find_spec("apache_beam") is None:
        raise UsageError(
            "--on beam needs Apache Beam, which is not installed; install it with: "
            "pip install 'bulkup[beam]'"
        )
