"""bulkup serve"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import (
    MIGRATIONS_DIR,
    Json,
    StateDir,
    TargetArgs,
    folder_option,
    given_options,
)
from bulkup.cli.values import WholeNumber
from bulkup.core.errors import UsageError

_NEEDED = ("starlette", "uvicorn")


@dataclass(frozen=True)
class ServeArgs:
    all: Annotated[
        bool,
        click.Option(
            ["--all"],
            is_flag=True,
            help="Also show the runs and migrations that Datastore knows of.",
        ),
    ]
    folder: Annotated[
        Path | None,
        folder_option("With --all: folder of the migrations.  [default: updaters]"),
    ]
    port: Annotated[
        int,
        click.Option(
            ["--port"],
            type=WholeNumber(0, 65535),
            default=0,
            metavar="PORT",
            help="Port on this machine.  [default: any free one]",
        ),
    ]
    open: Annotated[
        bool | None,
        click.Option(
            ["--open/--no-open"],
            default=None,
            help="Open the page in a browser.  [default: open it if standard output is a terminal]",
        ),
    ]
    target: TargetArgs
    state_dir: StateDir
    json: Json


@verb(
    "serve",
    ServeArgs,
    examples=(
        ("bulkup serve", "the runs of this state directory"),
        ("bulkup serve --all --target prod", "and what Datastore knows of"),
    ),
)
def command(args: ServeArgs) -> None:
    """Show runs live in a browser on this machine, until Ctrl-C.

    Each run has a page with its charts, failures and log, and with buttons that pause, continue,
    cancel and tune it. The server can be reached from this machine only, and by the one browser
    that opens the link it prints: the link works once. With --all, the pages also show the runs and
    migrations that a Datastore knows of; the options that name a target go with --all. Looking at
    pages writes nothing. Ctrl-C and SIGTERM end the server with exit code 0.

    Needs `pip install 'bulkup[web]'`.
    """
    if not args.all and (given := given_options(TargetArgs)):
        raise click.UsageError(f"{given[0]} goes with --all, which asks Datastore for its runs")
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"bulkup serve needs {' and '.join(missing)}, which this Python does not have; "
            "install it with: pip install 'bulkup[web]'"
        )
    from bulkup.web.board import Board
    from bulkup.web.server import listen, serve

    target = args.target.options() if args.all else None
    board = Board(args.state_dir, target, args.folder or MIGRATIONS_DIR)
    listening = listen(args.port)
    port: int = listening.getsockname()[1]
    with ExitStack() as until_end:
        serve(board, listening, lambda url: _announce(url, port, args, until_end))


def _announce(url: str, port: int, args: ServeArgs, until_end: ExitStack) -> None:
    if args.json:
        from bulkup.report.json_lines import stdout_lines

        stdout_lines().write("serving", {"url": url, "port": port})
    else:
        click.echo(url)
        sys.stdout.flush()
        click.echo(
            "Serving until Ctrl-C. The link works once, in one browser on this machine.", err=True
        )
    if args.open or (args.open is None and not args.json and sys.stdout.isatty()):
        _open_browser(url, until_end)


def _open_browser(url: str, until_end: ExitStack) -> None:
    """Pass the link in a private file: all users of this machine can read a browser's command
    line."""
    import tempfile
    import threading
    import webbrowser
    from html import escape

    folder = until_end.enter_context(tempfile.TemporaryDirectory(prefix="bulkup-serve-"))
    page = Path(folder, "open.html")
    page.touch(0o600)
    page.write_text(
        f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={escape(url)}">'
        f'<a href="{escape(url)}">Open bulkup</a>\n'
    )
    # In a thread: a browser in the terminal would keep the server waiting.
    threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
