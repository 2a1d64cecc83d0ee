"""bulkup local, bulkup local serve"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bulkup.cli.help_page import HelpPage
from bulkup.cli.local_dump import dump
from bulkup.cli.local_load import load
from bulkup.cli.values import WholeNumber
from bulkup.core.errors import Exit


@click.group("local")
def command() -> None:
    """Work with the embedded Datastore: one file, no emulator, no cloud.

    `bulkup run --local FILE` runs an updater on it. These commands fill the file, dump it, and
    serve it to other programs as the Datastore API.
    """


command.add_command(load)
command.add_command(dump)


@command.command(
    cls=HelpPage,
    short_help="Serve FILE to programs on this machine.",
    examples=(
        ("bulkup local serve shop.db", "until Ctrl-C"),
        ("bulkup local serve --port 8081", "a temporary Datastore"),
    ),
)
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--port", type=WholeNumber(0, 65535), default=0, help="Port.  [default: any free one]"
)
def serve(file: str | None, port: int) -> int:
    """Serve FILE to programs on this machine until Ctrl-C; without FILE, serve a temporary one that
    is deleted at the end.

    Run the line that it prints on standard output in the shell that starts those programs. FILE is
    created if it is missing. It keeps acknowledged writes, however the server ends. Ctrl-C and
    SIGTERM end the server with exit code 0.
    """
    from bulkup.local.server import DatastoreServer, dedicate_process
    from bulkup.report.text import clean

    with _scratch(file) as path, _stop_signal() as wait:
        os.umask(0o077)
        with DatastoreServer(path, port=port) as server:
            dedicate_process()
            click.echo(f"export DATASTORE_EMULATOR_HOST={server.host}")
            sys.stdout.flush()
            what = clean(file) if file else "a temporary file, deleted at the end"
            click.echo(
                f"Serving {what}; stop it with Ctrl-C. Any project works; the other commands use "
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
    """Yields a function that waits for SIGINT or SIGTERM, including one that came before the call.

    This is not a signal handler: Python would run it in this thread, which may at that moment hold
    the very lock that the handler needs to wake it. Threads started in the block do not get the
    signals.
    """
    numbers = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield lambda: signal.sigwait(numbers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
