"""Which settings a command uses: command line > environment variable > file > default."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from bulkup.cli.config_file import find_config
from bulkup.cli.config_keys import GROUPS, MIGRATIONS, SHARED_IDS, Settings, read_settings
from bulkup.cli.named_target import offer
from bulkup.core.paths import current_directory
from bulkup.core.similar import similar_names

_SETTINGS = "bulkup.settings"
_PREFIX = "BULKUP_"

WORK_IS_RECORDED = ("resume", "retry", "abandon", "undo")
"""Commands on work whose target is recorded: a default of the user could contradict the record."""
_WHERE = ("target", "project", "database", "namespace", "local", "all_namespaces", "namespaces")


def bound_to_settings(
    command: str, given: Iterable[tuple[click.Parameter, type | None]]
) -> tuple[list[click.Parameter], dict[str, str | None], set[str]]:
    """A command's parameters, bound to the environment and the configuration file.

    `given`: each parameter with the dataclass of shared options that it is in, or None. Returns
    copies of the parameters that also read BULKUP_<OPTION> (click itself reads
    BULKUP_<COMMAND>_<OPTION>); by the name of each parameter, the key that sets it in a
    configuration file, or None; and the names of those that several commands share.
    """
    params, keys, shared = [], {}, set()
    for original, group in given:
        param, name = copy.copy(original), str(original.name)
        is_shared = group in GROUPS or id(original) in SHARED_IDS
        if is_shared:
            shared.add(name)
        key = name if is_shared else None
        if name == "folder" and command != "new":  # `new` writes elsewhere, too
            key = MIGRATIONS
        if command in WORK_IS_RECORDED and name in _WHERE:
            key = None
        if key is not None and param.envvar is None:
            param.envvar = variables(command, param, key)
        params.append(param)
        keys[name] = key
    return params, keys, shared


def variables(command: str, param: click.Parameter, key: str | None) -> list[str]:
    """The environment variables that set a parameter, the strongest first."""
    own = f"{_PREFIX}{command}_{param.name}".upper()
    if isinstance(param.envvar, str):  # the variable is not named after the option
        own = param.envvar
    if key is None:
        return [own] if isinstance(param, click.Option) else []
    shared = f"{_PREFIX}{key}".upper()
    return [own, shared] if isinstance(param, click.Option) else [shared]


def variable_of(command: str, param: click.Parameter, key: str | None) -> str:
    """The environment variable that sets a parameter now; empty if none does."""
    names = variables(command, param, key)
    return next((name for name in names if os.environ.get(name)), "")


def misspelled(command: click.Command, keys: Mapping[str, str | None], verbs: Iterable[str]) -> str:
    """A sentence about an environment variable that nothing reads, but that is likely meant for an
    option of this command; empty if there is none. `verbs`: all commands."""
    there = sorted(name for name in os.environ if name.startswith(_PREFIX))
    if not there:
        return ""
    read = {
        name
        for param in command.params
        for name in variables(str(command.name), param, keys.get(str(param.name)))
    }
    others = tuple(f"{_PREFIX}{verb}_".upper() for verb in verbs if verb != command.name)
    for name in there:
        if name in read or name.startswith(others):
            continue
        plain = (one.removeprefix(_PREFIX) for one in sorted(read))
        if close := similar_names(name.removeprefix(_PREFIX), plain):
            return f"{name} is set, and nothing reads it; is it meant to be {_PREFIX}{close[0]}?"
    return ""


def load_settings(ctx: click.Context) -> Settings:
    """The settings of the configuration file; read once per command. Raises UsageError."""
    if _SETTINGS not in ctx.meta:
        folder = current_directory()
        config = find_config(folder, os.environ)
        settings = Settings() if config is None else read_settings(config, folder)
        ctx.meta[_SETTINGS] = settings
        offer(ctx, settings.targets, settings.source)
    return ctx.meta[_SETTINGS]  # type: ignore[no-any-return]


def current_settings() -> Settings:
    """The settings of the command that is running."""
    return click.get_current_context().meta.get(_SETTINGS, Settings())  # type: ignore[no-any-return]


def defaults_from(settings: Settings, keys: dict[str, str | None]) -> dict[str, Any]:
    """Click's `default_map` for a command. `keys`: the key of each of its parameters."""
    found = {}
    for name, key in keys.items():
        if key is not None and key in settings.values:
            found[name] = settings.values[key]
    return found
