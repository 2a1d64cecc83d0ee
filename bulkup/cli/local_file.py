"""What `bulkup local load` and `bulkup local dump` share: the open file, and what they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.values import Name
from bulkup.core.errors import Exit, StopAskedError, UsageError

if TYPE_CHECKING:
    from bulkup.local.access import LocalFile, ReadableFile
    from bulkup.local.encoding import Partition

_DRAW_EVERY_S = 0.1


@dataclass(frozen=True)
class PartitionArgs:
    """Where the entities are. The empty string is the default, as in Datastore's own messages."""

    project: Annotated[
        str, click.Option(["--project"], default="local", show_default=True, help="Project.")
    ]
    database: Annotated[
        str,
        click.Option(
            ["--database"], default="", help="Named database.  [default: the (default) database]"
        ),
    ]
    namespace: Annotated[
        tuple[str, ...],
        click.Option(
            ["--namespace"],
            type=Name(),
            multiple=True,
            help="Namespace; '' is the default one.  [default: the default one; of an export, all, "
            "and several can be given]",
        ),
    ]

    def one_namespace(self) -> str:
        """Raises UsageError for several, which are for exports only."""
        return only_one(self.namespace, "--namespace")


def only_one(given: tuple[str, ...], option: str) -> str:
    """The value of an option that may be given several times for exports only; empty if not
    given."""
    if len(given) > 1:
        raise UsageError(f"{option} can be given once; several are for exports only")
    return given[0] if given else ""


@contextmanager
def open_local_file(
    file: str, partition: PartitionArgs, *, if_interrupted: str
) -> Iterator[LocalFile]:
    """The embedded Datastore in `file`, which is created if missing. Ctrl-C exits with 130."""
    from bulkup.local.access import LocalFile

    with interruptible(if_interrupted), LocalFile(file, _place(partition)) as opened:
        yield opened


@contextmanager
def open_to_read(
    file: str, partition: PartitionArgs, *, if_interrupted: str
) -> Iterator[ReadableFile]:
    """The same, for reading only. If another process serves the file, reads through that
    process."""
    from bulkup.local.access import LocalFile
    from bulkup.local.served import ServedFile
    from bulkup.local.sharing import served_by

    with interruptible(if_interrupted):
        served, place = served_by(file), _place(partition)
        source = LocalFile(file, place) if served is None else ServedFile(file, place, served)
        with source:
            yield source


def _place(partition: PartitionArgs) -> Partition:
    from bulkup.local.encoding import Partition

    return Partition(partition.project, partition.database, partition.one_namespace())


@contextmanager
def interruptible(if_interrupted: str) -> Iterator[None]:
    """Ctrl-C in this block exits with 130."""
    os.umask(0o077)
    try:
        yield
    except KeyboardInterrupt:
        stopped = StopAskedError(f"Interrupted; {if_interrupted}.", Exit.SIGINT)
        say(stopped.message)
        from bulkup.report.json_lines import stdout_lines
        from bulkup.report.stdout import kept_stdout

        if kept_stdout() is not None:  # by --json
            stdout_lines().error(stopped)
        raise click.exceptions.Exit(Exit.SIGINT) from None


@contextmanager
def progress_bar(
    title: str, total: int | None, *, shown: bool = True
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal.

    Call the result with the number of entities so far, and with the part of `total` that is done.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda entities, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.fields[entities]:,} entities"),
        TimeRemainingColumn(),
    )
    # Drawn by this thread whenever something is done: a separate thread would receive signals.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as progress:
        task = progress.add_task("", total=total, entities=0)
        drawn = 0.0

        def advance(entities: int, done: int) -> None:
            nonlocal drawn
            progress.update(task, completed=done, entities=entities)
            if monotonic() - drawn >= _DRAW_EVERY_S:
                drawn = monotonic()
                progress.refresh()

        yield advance


def entities(count: int) -> str:
    from bulkup.report.text import plural

    return plural(count, "entity", "entities")


def say(line: str) -> None:
    from bulkup.report.text import clean

    click.echo(clean(line), err=True)
