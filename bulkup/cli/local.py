"""bulkup local serve, load, dump"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from bulkup.errors import Exit, StateError

if TYPE_CHECKING:
    from bulkup.local.access import LocalFile

_WATCH_EVERY = 500
"""Entities dumped between two looks at the clock."""
_DRAW_EVERY_S = 0.1
_NAMED = 10
"""Kinds or namespaces in a hint."""


@click.group("local")
def command() -> None:
    """The embedded Datastore: one file, no emulator, no cloud.

    `bulkup run --local FILE` runs an updater on it. These commands fill it, read it out, and serve
    it to other programs as the Datastore API.
    """


def _target(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--namespace", default="", help="Namespace.  [default: the empty one]"),
        click.option(
            "--database", default="", help="Named database.  [default: the (default) one]"
        ),
        click.option("--project", default="local", show_default=True, help="Project."),
    ):
        function = option(function)
    return function


# --- serve ---


@command.command(short_help="Serve FILE to programs on this machine.")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port.  [default: any free one]"
)
def serve(file: str | None, port: int) -> int:
    """Serve FILE to programs on this machine until Ctrl-C; without FILE, a Datastore that is
    gone when this ends.

    The line on standard output is for the shell that starts those programs. FILE is made when it
    is not there; what was acknowledged is in it, however the server ends. Ctrl-C and SIGTERM are
    how a server ends: the exit code is 0.
    """
    from bulkup.local.server import DatastoreServer, dedicate_process
    from bulkup.report.text import clean

    with _scratch(file) as path, _stop_signal() as wait:
        os.umask(0o077)
        with DatastoreServer(path, port=port) as server:
            dedicate_process()
            click.echo(f"export DATASTORE_EMULATOR_HOST={server.host}")
            sys.stdout.flush()
            what = clean(file) if file else "a Datastore that is gone when this ends"
            click.echo(
                f"Serving {what}; Ctrl-C ends it. Any project will do, the other commands take "
                "one named local: export GOOGLE_CLOUD_PROJECT=local",
                err=True,
            )
            wait()
    return Exit.DONE


@contextmanager
def _scratch(file: str | None) -> Iterator[str]:
    if file is not None:
        yield file
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="bulkup-") as folder:
        yield str(Path(folder, "datastore"))


@contextmanager
def _stop_signal() -> Iterator[Callable[[], object]]:
    """Gives a function that waits for SIGINT or SIGTERM, however early they come.

    No handler: Python runs those in this thread, which could hold, at that moment, the very lock
    that the handler needs to wake it. Threads begun in here do not get the signals either.
    """
    numbers = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield lambda: signal.sigwait(numbers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- load ---


@command.command(short_help="Load lines of JSON into FILE.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("data", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--kind", default="", help="Kind of the entities whose line has no key.")
@click.option(
    "--id-field", default="", metavar="NAME",
    help="Member that is their id (an integer) or name (a text); it stays a property as well.  "
    "[default: the file gives ids]",
)  # fmt: skip
@_target
def load(
    file: str, data: str, kind: str, id_field: str, project: str, database: str, namespace: str
) -> None:
    """Load DATA, JSON with one object a line (- is standard input), into FILE.

    A line is an object of properties, such as {"name": "x", "n": 1}; with a member "__key__", such
    as ["Shop", 5, "Product", "x"], it says its own key. Or it is an Entity as Datastore's REST API
    has it: {"key": {"path": [...]}, "properties": {"n": {"integerValue": "1"}}}. `dump` writes
    both. Texts of more than 1,500 bytes are loaded without an index.

    An entity that is there already, with the same key, is overwritten. The first bad line ends the
    loading: what comes before it is loaded and stays.
    """
    from bulkup.local.transfer import STDIN, Source
    from bulkup.local.transfer import load as load_all

    path = None if data == "-" else Path(data)
    with (
        click.open_file(data, "rb") as stream,
        _opened(file, project, database, namespace, "nothing was loaded") as target,
        _bar("Loading", path.stat().st_size if path and path.is_file() else None) as watch,
    ):
        source = Source(stream, data if path else STDIN, kind, id_field)
        count = load_all(target, source, watch)
    _say(f"{_entities(count)} loaded into {file}.")


# --- dump ---


@command.command(short_help="Write the entities of FILE as lines of JSON.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--kind", default="", help="Only entities of this kind.")
@click.option("--limit", type=click.IntRange(min=0), help="Only the first so many, by key.")
@click.option("--lossless", is_flag=True, help="All in the lossless form, for programs.")
@_target
def dump(
    file: str,
    kind: str,
    limit: int | None,
    lossless: bool,
    project: str,
    database: str,
    namespace: str,
) -> None:
    """Write the entities of FILE to standard output, as JSON with one object a line.

    An entity that plain JSON can hold is an object of its properties, with its key as "__key__".
    What it cannot hold (a timestamp, say, or a property without an index) makes the line an Entity
    as Datastore's REST API has it. Either way, `load` makes the very same entity of it.

    The run records that bulkup keeps beside the data are left out, unless --kind names them.
    """
    from bulkup.local.transfer import dump as dump_all
    from bulkup.state.kinds import OWN_KINDS

    written = odd = 0
    half = "the output is not complete"
    with _opened(file, project, database, namespace, half) as source, _output() as write:
        # On a terminal the lines themselves show how it goes.
        total = None if sys.stdout.isatty() or not sys.stderr.isatty() else source.count(kind)
        with _bar("Dumping", total, shown=not sys.stdout.isatty()) as watch:
            for line, is_odd in dump_all(
                source, kind, lossless=lossless, limit=limit, leave_out=OWN_KINDS
            ):
                write(line)
                written += 1
                odd += is_odd
                if not written % _WATCH_EVERY:
                    watch(written, written)
        hint = "" if written else _what_else(source, kind)
    form = f", {odd:,} of them in the lossless form" if odd and not lossless else ""
    _say(f"{_entities(written)} dumped{form}.{hint}")


def _what_else(file: LocalFile, kind: str) -> str:
    """For somebody who finds nothing where they look."""
    kinds = file.names("__kind__")
    if kind and kinds and kind not in kinds:
        return f" There is none of kind {kind!r} here; kinds are: {', '.join(kinds[:_NAMED])}."
    namespaces = [name for name in file.names("__namespace__") if name != file.place.namespace]
    if not kinds and namespaces:
        return f" Namespaces with entities: {', '.join(namespaces[:_NAMED])} (--namespace)."
    return ""


# --- shared ---


@contextmanager
def _opened(
    file: str, project: str, database: str, namespace: str, interrupted: str
) -> Iterator[LocalFile]:
    from bulkup.local.access import LocalFile
    from bulkup.local.encoding import Partition

    os.umask(0o077)
    try:
        with LocalFile(file, Partition(project, database, namespace)) as opened:
            yield opened
    except KeyboardInterrupt:
        _say(f"Interrupted; {interrupted}.")
        raise click.exceptions.Exit(Exit.SIGINT) from None


@contextmanager
def _output() -> Iterator[Callable[[str], object]]:
    """Writes lines to standard output, in UTF-8 whatever the locale."""
    out = sys.stdout.buffer
    try:
        yield lambda line: out.write(line.encode() + b"\n")
        out.flush()
    except BrokenPipeError:
        # `dump | head`: the reader has what it wants. Python must not complain at its end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise click.exceptions.Exit(Exit.FAILED) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise StateError(
            f"cannot write to standard output ({error.strerror}); what is there is not all"
        ) from error


@contextmanager
def _bar(
    title: str, total: int | None, *, shown: bool = True
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, where that is a terminal.

    Gives what moves it: a function of the entities done, and how far that is of `total`.
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
    # Drawn when something is done, by this thread: another one would take signals from it.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as progress:
        task = progress.add_task("", total=total, entities=0)
        drawn = 0.0

        def watch(entities: int, done: int) -> None:
            nonlocal drawn
            progress.update(task, completed=done, entities=entities)
            if monotonic() - drawn >= _DRAW_EVERY_S:
                drawn = monotonic()
                progress.refresh()

        yield watch


def _entities(count: int) -> str:
    from bulkup.report.text import plural

    return plural(count, "entity", "entities")


def _say(line: str) -> None:
    from bulkup.report.text import clean

    click.echo(clean(line), err=True)
