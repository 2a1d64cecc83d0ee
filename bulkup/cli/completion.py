"""Shell completion of updaters, runs, migrations and targets.

It reads names of files and folders, and the source of updaters. None of the user's code runs, and
Datastore is not asked. What cannot be read completes to nothing: an error must not appear in a line
that is being typed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from bulkup.authoring.built_ins import BUILT_INS
from bulkup.authoring.updater_names import specs_of, updater_names
from bulkup.core.errors import BulkupError

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _names(find: Callable[[click.Context, str], Iterator[str]]) -> _Complete:
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            names = [name for name in find(ctx, incomplete) if name.startswith(incomplete)]
        except (BulkupError, OSError):
            names = []
        # The protocol has one item per line.
        return [CompletionItem(name) for name in sorted(set(names)) if name.isprintable()]

    return complete


def _updaters(ctx: click.Context, incomplete: str) -> Iterator[str]:
    where, colon, _ = incomplete.rpartition(":")
    if colon and os.path.isfile(where):
        for name in updater_names(Path(where)):
            yield f"{where}:{name}"
        return
    if incomplete:  # otherwise they would hide the user's own
        yield from BUILT_INS
    folder = os.path.dirname(incomplete)
    for entry in os.scandir(folder or "."):
        shown = os.path.join(folder, entry.name)
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.name.startswith("__"):
                yield f"{shown}/"
        elif entry.name.endswith(".py"):
            yield from specs_of(Path(shown), shown)


def _runs(ctx: click.Context, incomplete: str) -> Iterator[str]:
    from bulkup.state.files import run_folders

    for folder in run_folders(Path(_in_force(ctx, "state_dir", ".bulkup"))):
        yield folder.name


def _migrations(ctx: click.Context, incomplete: str) -> Iterator[str]:
    from bulkup.migrations.folder import read_folder

    for migration in read_folder(Path(_in_force(ctx, "folder", "updaters"))):
        yield migration.name


def _targets(ctx: click.Context, incomplete: str) -> Iterator[str]:
    from bulkup.cli.settings import load_settings

    yield from load_settings(ctx).targets


def _in_force(ctx: click.Context, name: str, default: str) -> str:
    from bulkup.cli.settings import load_settings

    typed = ctx.params.get(name) or (name == "folder" and ctx.params.get("directory")) or None
    source = ctx.get_parameter_source(name)
    if typed is not None and (name == "folder" or source is not click.core.ParameterSource.DEFAULT):
        return str(typed)
    key = "migrations" if name == "folder" else name
    return str(load_settings(ctx).values.get(key, default))


COMPLETERS: dict[tuple[str, str], _Complete] = {
    ("*", "target"): _names(_targets),
    ("*", "updater"): _names(_updaters),
    ("*", "run"): _names(_runs),
    ("report", "compare"): _names(_runs),
    ("mark", "name"): _names(_migrations),
    ("migrate", "to"): _names(_migrations),
    ("migrate", "only"): _names(_migrations),
    ("migrate", "accept_changed"): _names(_migrations),
}
"""By command and parameter; `*` is any command."""


class Bash(BashComplete):
    """Bash splits words at colons, too. So `file.py:Name` arrives as three words, and a completion
    may hold only what comes after the colon."""

    def get_completion_args(self) -> tuple[list[str], str]:
        # The completion script joins the words with line breaks.
        words, count = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
        args, incomplete = super().get_completion_args()
        self._prefix = ""
        if ":" not in words[: count + 1]:
            return args, incomplete
        joined: list[str] = []
        for word in [*args, incomplete]:
            if joined and (word == ":" or joined[-1].endswith(":")):
                joined[-1] += word
            else:
                joined.append(word)
        *args, incomplete = joined
        if ":" in incomplete:
            self._prefix = incomplete[: incomplete.rindex(":") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value.removeprefix(self._prefix)}"


add_completion_class(Bash)
