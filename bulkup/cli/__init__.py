"""The command line. Each command is one file: it parses options, calls one function, prints.

A command is imported when it is used, and grpc only when a command runs, so help pages appear at
once. `call` is the one place where errors become exit codes.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from bulkup.cli.errors import ShownError
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.secrets import without_secrets
from bulkup.core.version import __version__

_COMMANDS = {
    "run": ("bulkup.cli.run", "Run an updater over every entity of its query."),
    "resume": ("bulkup.cli.resume", "Resume an unfinished run."),
    "list": ("bulkup.cli.list", "List the runs in the state directory."),
    "show": ("bulkup.cli.show", "Show one run: its report, failures and log."),
    "abandon": ("bulkup.cli.abandon", "Give up an unfinished run."),
    "prune": ("bulkup.cli.prune", "Delete the folders of old runs that are over."),
    "migrate": ("bulkup.cli.migrate", "Apply the pending migrations of a folder."),
    "status": ("bulkup.cli.status", "Show which migrations of a folder are applied."),
    "mark": ("bulkup.cli.mark", "Mark a migration as applied, or as pending."),
    "unlock": ("bulkup.cli.unlock", "Release a dead process's lock on a run."),
    "params": ("bulkup.cli.params", "Show the parameters of an updater."),
    "config": ("bulkup.cli.config", "Show which settings are in force, and where from."),
    "local": ("bulkup.cli.local", "Serve, load or dump a Datastore in a file."),
    "demo": ("bulkup.cli.demo", "Try bulkup on sample data, in a new folder."),
}


class _Lazy(click.Group):
    """Lists its commands without importing them; imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS]  # `list` is a module of this package

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Lazy,
    context_settings={
        "auto_envvar_prefix": "BULKUP",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, message="bulkup %(version)s")
def cli() -> None:
    """Apply a Python function to every entity of a Datastore query, exactly once.

    Start with `bulkup run -n UPDATER`, which shows what would change and writes nothing.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code (see `core.errors.Exit`): the console script."""
    sys.exit(call(args))


def call(args: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    verbose = any(a.startswith("-v") for a in (sys.argv[1:] if args is None else args))
    try:
        code = cli.main(args, prog_name="bulkup", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Aborted; nothing was started.", err=True)
        return Exit.SIGINT
    except ShownError as shown:
        return shown.exit_code
    except BulkupError as error:
        from bulkup.report import make_printer

        with make_printer() as printer:
            printer.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("\nStopped at once; nothing is lost. Continue with: bulkup resume", err=True)
        return Exit.SIGINT
    except Exception as error:
        if verbose:
            click.echo(without_secrets(traceback.format_exc()), err=True)
        # repr: the message may hold anything, and must not reach the terminal raw.
        message = without_secrets(str(error))[:300]
        click.echo(
            f"Error: this is a bug in bulkup ({type(error).__name__}: {message!r}). What was "
            "written is safe, and `bulkup resume` continues. Please report the bug with the "
            "output of -v.",
            err=True,
        )
        return Exit.FAILED
    return int(code or 0)
