"""The command line. Each command is one file: it parses options, calls one function, prints.

A command is imported when it is used, and grpc only when a command runs, so help pages appear at
once. `call` is the one place where errors become exit codes.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TextIO

import click

from bulkup.cli.errors import ShownError
from bulkup.cli.next_steps import complete
from bulkup.core.errors import BulkupError, Exit, StateError, StopAskedError, UsageError
from bulkup.core.hidden_modules import hiding_file
from bulkup.core.secrets import without_secrets
from bulkup.core.similar import likely_meant
from bulkup.core.version import __version__
from bulkup.core.visible import visible

_COMMANDS = {
    "run": ("bulkup.cli.run", "Run an updater over every entity of its query."),
    "plan": ("bulkup.cli.plan", "Predict what a run would do, cost and risk."),
    "rehearse": ("bulkup.cli.rehearse", "Run an updater on a copy of real data, and report."),
    "approve": ("bulkup.cli.approve", "Approve a plan, so that a run may carry it out."),
    "resume": ("bulkup.cli.resume", "Resume an unfinished run."),
    "retry": ("bulkup.cli.retry", "Handle the failed entities of a run again."),
    "pause": ("bulkup.cli.pause", "Pause a run until `bulkup continue`."),
    "continue": ("bulkup.cli.continue_run", "Continue a paused run."),
    "cancel": ("bulkup.cli.cancel", "Stop the process that works on a run."),
    "tune": ("bulkup.cli.tune", "Change how fast a run works."),
    "verify": ("bulkup.cli.verify", "Name the entities that an updater has not done."),
    "count": ("bulkup.cli.count", "Count the entities that a selection matches."),
    "find": ("bulkup.cli.find", "Print the entities that a selection matches."),
    "list": ("bulkup.cli.list", "List the runs in the state directory."),
    "show": ("bulkup.cli.show", "Show one run: its report, failures and log."),
    "report": ("bulkup.cli.report", "Make the report of a run again, or compare two."),
    "logs": ("bulkup.cli.logs", "Print what happened in a run, or follow it."),
    "bundle": ("bulkup.cli.bundle", "Write what is known of a run to a file for a bug report."),
    "serve": ("bulkup.cli.serve", "Show runs live in a browser, and steer them."),
    "undo": ("bulkup.cli.undo", "Put back what a run has changed."),
    "abandon": ("bulkup.cli.abandon", "Give up an unfinished run."),
    "prune": ("bulkup.cli.prune", "Delete the folders of old runs that are over."),
    "rewind": ("bulkup.cli.rewind", "Put entities back as they were at a time."),
    "diff": ("bulkup.cli.diff", "Show what differs between two times or places."),
    "migrate": ("bulkup.cli.migrate", "Apply the pending migrations of a folder."),
    "status": ("bulkup.cli.status", "Show which migrations of a folder are applied."),
    "mark": ("bulkup.cli.mark", "Mark a migration as applied, or as pending."),
    "unlock": ("bulkup.cli.unlock", "Release a dead process's lock on a run."),
    "new": ("bulkup.cli.new", "Write a new updater and its test."),
    "updaters": ("bulkup.cli.updaters", "List the built-in updaters, and those in a folder."),
    "params": ("bulkup.cli.params", "Show the parameters of an updater."),
    "config": ("bulkup.cli.config", "Show which settings are in force, and where from."),
    "local": ("bulkup.cli.local", "Serve, load or dump a Datastore in a file."),
    "demo": ("bulkup.cli.demo", "Try bulkup on sample data, in a new folder."),
    "help": ("bulkup.cli.help", "Explain exit codes, targets, parameters, and more."),
}

_COMPLETION_VARIABLE = "_BULKUP_COMPLETE"
"""Set by the shell when it asks for completions."""

_GROUPS = {
    "Run an updater": ("run", "plan", "rehearse", "approve", "resume", "retry", "verify"),
    "Steer a run": ("pause", "continue", "cancel", "tune"),
    "Write an updater": ("new", "updaters", "params"),
    "Look at runs": ("list", "show", "report", "logs", "bundle", "serve"),
    "Look at entities": ("count", "find"),
    "Take back": ("undo", "rewind", "diff"),
    "Migrations": ("migrate", "status", "mark", "unlock"),
    "A Datastore in a file": ("local", "demo"),
    "Keep house": ("abandon", "prune", "config", "help"),
}
"""How the help page lists the commands."""

_MEANT = {
    "start": "run", "exec": "run", "preview": "plan", "explain": "plan", "unpause": "continue",
    "rehearsal": "rehearse", "simulate": "rehearse",
    "hold": "pause", "suspend": "pause", "stop": "cancel", "kill": "cancel", "throttle": "tune",
    "ls": "list", "runs": "list",
    "log": "logs", "tail": "logs",
    "apply": "migrate", "upgrade": "migrate", "delete": "abandon",
    "rm": "prune", "ui": "serve", "web": "serve", "load": "local load", "dump": "local dump",
    "create": "new", "generate": "new", "init": "new", "scaffold": "new",
    "settings": "config", "compare": "diff", "rollback": "undo", "revert": "undo",
    "restore": "undo", "version": "--version",
}  # fmt: skip
"""What users of other tools may type, and the command that they mean."""


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
        for title, names in _GROUPS.items():
            with formatter.section(title):
                listed = [(name, _COMMANDS[name][1]) for name in names if name in _COMMANDS]
                formatter.write_dl(listed, col_max=10)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        close = [_MEANT[name]] if name in _MEANT else get_close_matches(name, _COMMANDS, n=2)
        if name.endswith(".py"):
            close = [shlex.join(["run", name])]
        meant = " or ".join(f"`bulkup {one}`" for one in close)
        raise click.UsageError(
            f"there is no command {name!r}"
            + (f"; did you mean {meant}?" if close else "; `bulkup --help` lists the commands"),
            ctx,
        )


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

    Start with `bulkup run -n UPDATER`, which shows what would change and writes nothing, or with
    `bulkup demo`. `bulkup COMMAND --help` shows a command's options.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code (see `core.errors.Exit`): the console script."""
    sys.exit(call(args, releases_stdout=False))


def call(args: Sequence[str] | None = None, *, releases_stdout: bool = True) -> int:
    """Run a command in this process; return its exit code.

    With --json, standard output is reserved for bulkup until the command ends. Without
    `releases_stdout` it is reserved until the process ends, because user code may print at exit.
    """
    words = sys.argv[1:] if args is None else args
    state: dict[str, Any] = {}
    if _COMPLETION_VARIABLE in os.environ:
        from bulkup.cli.completion import COMPLETERS

        state["completers"] = COMPLETERS
    try:
        code = cli.main(args, prog_name="bulkup", standalone_mode=False, obj=state)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption):  # click also suggests vaguely similar names
            name, ctx = error.option_name, error.ctx
            close = likely_meant(name, error.possibilities or ())
            error = click.NoSuchOption(name, possibilities=close, ctx=ctx)
        error.show()
        _write_error(UsageError(error.format_message()), words)
        return error.exit_code
    except click.Abort:
        stopped = StopAskedError("Aborted; nothing was started.", Exit.SIGINT)
        click.echo(stopped.message, err=True)
        _write_error(stopped, words)
        return Exit.SIGINT
    except ShownError as shown:
        return shown.exit_code
    except BulkupError as error:
        complete(error, state)
        from bulkup.report import make_printer

        with make_printer() as printer:
            printer.error(error)
        _write_error(error, words)
        return error.exit_code
    except KeyboardInterrupt:
        stopped = StopAskedError(
            "Stopped at once; nothing is lost. Continue with: bulkup resume",
            Exit.SIGINT,
            next_steps=["bulkup resume"],
        )
        click.echo(f"\n{stopped.message}", err=True)
        _write_error(stopped, words)
        return Exit.SIGINT
    except BrokenPipeError:
        # `bulkup list | head`: the reader has what it wants. Python must not complain at exit.
        _lead_nowhere(sys.stdout)
        return Exit.FAILED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            full = _full_disk(error)
            click.echo(f"Error: {full.message}", err=True)
            _write_error(full, words)
            return full.exit_code
        # A command without the option -v has no other way to show the traceback.
        verbose = state.get("verbose", True)
        if verbose:
            click.echo(without_secrets(traceback.format_exc()), err=True)
        if hiding := hiding_file():
            hidden = UsageError(hiding)
            click.echo(f"Error: {hidden.message}", err=True)
            _write_error(hidden, words)
            return Exit.USAGE
        # repr: the message may hold anything, and must not reach the terminal raw.
        message = without_secrets(str(error))[:300]
        bug = (
            f"this is a bug in bulkup ({type(error).__name__}: {message!r}). What was "
            "written is safe, and `bulkup resume` continues. Please report the bug with the "
            + ("lines above." if verbose else "output of the same command and -v.")
        )
        click.echo(f"Error: {bug}", err=True)
        _write_error(BulkupError(bug), words)
        return Exit.FAILED
    finally:
        if releases_stdout:
            _release_stdout()
    return int(code or 0)


def _release_stdout() -> None:
    from bulkup.report.stdout import kept_stdout

    if kept := kept_stdout():
        kept.release()


def _write_error(error: BulkupError, words: Sequence[str]) -> None:
    """With --json, write an error as a line, too. `words`: the command line, which may not have
    been parsed."""
    from bulkup.report.stdout import kept_stdout

    if kept_stdout() is None and "--json" not in words:
        return
    from bulkup.report.json_lines import stdout_lines

    with suppress(BrokenPipeError, StateError):  # it is reported on standard error, too
        stdout_lines().error(error)


_FULL = (errno.ENOSPC, errno.EDQUOT)


def _full_disk(error: OSError) -> StateError:
    """The error for a full disk. Most often that disk holds the file that standard output goes to,
    whose name is not known here."""
    if not error.filename:
        with suppress(OSError, ValueError):
            _lead_nowhere(sys.stdout)  # Python must not try again at exit
    name = visible(os.fsdecode(error.filename)) if error.filename else "all of the output"
    return StateError(
        f"cannot write {without_secrets(name)} ({error.strerror}); free disk space, then type the "
        "command again"
    )


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
