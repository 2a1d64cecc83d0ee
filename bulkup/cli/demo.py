"""bulkup demo"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bulkup.cli.help_page import HelpPage
from bulkup.core.errors import Exit


@click.command(
    "demo",
    cls=HelpPage,
    examples=(("bulkup demo", "in ./bulkup-demo"), ("bulkup demo /tmp/shop", "elsewhere")),
)
@click.argument(
    "folder", metavar="[DIR]", default="bulkup-demo", type=click.Path(path_type=Path)
)  # fmt: skip
def command(folder: Path) -> int:
    """Try bulkup on sample data, in a new folder (DIR, by default bulkup-demo).

    The demo makes a small shop in a file of the embedded Datastore, and an updater that changes it.
    It shows and runs some commands. Everything stays in the folder for you to continue; nothing
    outside it is touched.
    """
    from bulkup.cli.demo_shop import NEXT, STEPS, UPDATER, lay_out

    lay_out(folder)
    _say(f"A sample shop in {folder}. The lines with $ are what you would type.", "")
    _show(shlex.join(["cd", str(folder)]))
    with _inside(folder):
        for step in STEPS:
            _say("", click.style(step.text, bold=True))
            for number, line in enumerate(step.commands):
                if number:
                    _say("")
                code = _run(line)
                if code not in (Exit.DONE, Exit.LIMIT, Exit.DONE_WITH_FAILURES):
                    return code
    _say(
        "",
        click.style(f"Done. {UPDATER} is the whole updater: read it, change it.", bold=True),
    )
    _say(f"What to try next in {folder}:")
    for step in NEXT:
        _say("", step.text)
        for line in step.commands:
            _show(line)
    return Exit.DONE


def _run(line: str) -> int:
    """Show a command line, and run it in this process."""
    from bulkup.cli import call

    _show(line)
    return call(shlex.split(line)[1:])


def _show(line: str) -> None:
    _say(click.style(f"$ {line}", fg="cyan"))


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in the folder, without options from the environment or a configuration file, which are
    meant for real runs."""
    before, environment = Path.cwd(), dict(os.environ)
    for name in environment:
        if name.startswith("BULKUP_"):
            del os.environ[name]
    os.environ["BULKUP_CONFIG"] = os.devnull
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
