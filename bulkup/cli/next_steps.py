"""The commands that errors propose, with the options of the user's own command.

An error that comes from a lower layer knows what to type next, but not that the user typed
`--state-dir` or `--target`: without them the proposed command would look elsewhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click

from bulkup.cli.named_target import NamedTarget
from bulkup.core.errors import BulkupError

TYPED = "typed"
"""The key under which a command's context keeps what the user typed."""

_WHERE = ("target", "project", "database", "namespace", "local")
_FOLDER = ("directory", "folder")
_TAKES = {
    "list": ("state_dir",),
    "show": ("state_dir",),
    "logs": ("state_dir",),
    "bundle": ("state_dir",),
    "resume": ("state_dir",),
    "plan": _WHERE,
    "retry": ("state_dir",),
    "undo": ("state_dir",),
    "prune": ("state_dir",),
    "abandon": (*_WHERE, "state_dir"),
    "status": (*_FOLDER, *_WHERE),
    "mark": (*_FOLDER, *_WHERE),
    "unlock": (*_FOLDER, *_WHERE),
    "migrate": (*_FOLDER, *_WHERE, "state_dir"),
}
"""Options that decide where a command works, by command."""

_WORD = r"""(?:'[^']*'|"[^"]*"|[^\s`;,()'"])+?"""
_COMMAND = re.compile(
    r"`(?P<quoted>bulkup [^`]+)`"
    r"|(?<=\()(?P<bracketed>bulkup [^()`]+)(?=\))"
    # Up to the end of the clause; a word with any other character in it is quoted.
    rf"|(?<=: )(?P<last>bulkup(?: {_WORD})+)(?=[;,.]?(?:\s|$))",
    re.MULTILINE,
)
_FOR_PEOPLE = ("abandon", "mark", "prune", "rewind", "undo", "unlock")
"""Commands that forget, repeat, release or take back something. A message may suggest one to a
person, who can judge whether it is right. A program that runs the first of the next steps
cannot."""

_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+|\.\.\.")


def remember_typed(ctx: click.Context) -> None:
    """Keep what the user typed about where the command works."""
    typed: dict[str, list[str]] = {}
    for param in ctx.command.params:
        name = str(param.name)
        value = ctx.params.get(name)
        source = ctx.get_parameter_source(name)
        if value is None or source is not click.core.ParameterSource.COMMANDLINE:
            continue
        if name in (*_WHERE, "state_dir"):
            text = value.name if isinstance(value, NamedTarget) else str(value)
            typed[name] = [f"--{name.replace('_', '-')}", text]
        elif name in _FOLDER:
            typed[name] = ["--in", str(value)]
    if ctx.obj is not None:
        ctx.obj[TYPED] = typed


def complete(error: BulkupError, state: Mapping[str, Any] | None = None) -> None:
    """Complete the commands in an error's message, and list the harmless ones as its next steps,
    unless the error has steps of its own.

    `state`: the object of the command's context; None: the object of the current context.
    """
    if state is None:
        ctx = click.get_current_context(silent=True)
        state = (ctx.obj if ctx is not None else None) or {}
    typed: dict[str, list[str]] = state.get(TYPED, {})
    steps: list[str] = []

    def replace(match: re.Match[str]) -> str:
        (name,) = [name for name, text in match.groupdict().items() if text is not None]
        command = _completed(match[name], typed)
        if _is_whole(command) and not _is_for_people(command):
            steps.append(command)
        return f"`{command}`" if name == "quoted" else command

    error.message = _COMMAND.sub(replace, error.message)
    error.details = _COMMAND.sub(replace, error.details)
    known = [_completed(step, typed) for step in error.next_steps]
    error.next_steps = tuple(dict.fromkeys(known or steps))


def _is_for_people(command: str) -> bool:
    words = command.split()
    return words[1] in _FOR_PEOPLE or "--accept-changed" in words


def _completed(command: str, typed: dict[str, list[str]]) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return command  # not for a shell
    verb = words[1] if len(words) > 1 else ""
    missing = list(_missing(verb, words, typed))
    return f"{command} {shlex.join(missing)}" if missing else command


def _missing(verb: str, words: list[str], typed: dict[str, list[str]]) -> Iterator[str]:
    names_one = verb in ("migrate", "status") and not "".join(words[2:3]).startswith("-")
    has_folder = "--in" in words or (names_one and len(words) > 2)
    asks_datastore = _WHERE if verb == "list" and "--all" in words else ()
    for name in (*asks_datastore, *_TAKES.get(verb, ())):
        option = typed.get(name)
        if option is None or option[0] in words or (name in _FOLDER and has_folder):
            continue
        if name in _WHERE and name != "namespace" and {"--target", "--local"} & {*words}:
            continue  # it says where already
        yield from option


def _is_whole(command: str) -> bool:
    """Whether the command can be typed as it is: it has no placeholders, and says what it works
    on."""
    words = command.split()[1:]
    needs_more = words == ["run"] or (words[:1] == ["local"] and len(words) < 3)
    return not needs_more and not any(_PLACEHOLDER.fullmatch(word) for word in words)
