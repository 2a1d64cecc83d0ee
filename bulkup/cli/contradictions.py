"""Options that exclude each other.

What is typed wins over an environment variable, and both win over the configuration file. So two
options contradict each other only where they come from the same place; otherwise the weaker one is
ignored, as if it had not been given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Exclusive:
    """At most one of `names`; `why` completes the sentence that refuses two of them."""

    names: tuple[str, ...]
    why: str
    never_ignored: str = ""
    """One of them that is not dropped for what a stronger source says: both are refused then."""


EXCLUSIVE = (
    Exclusive(("quiet", "verbose"), "one prints less, the other more; choose one"),
    Exclusive(("target", "project"), "each names a project; choose one"),
    Exclusive(("target", "local"), "each says where the data is; choose one"),
    Exclusive(("all_namespaces", "namespaces", "namespace"), "choose one"),
    Exclusive(("to", "only"), "choose one"),
    *(
        Exclusive(("dry_run", name), f"a dry run {why}; leave one out", never_ignored="dry_run")
        for name, why in (
            ("new", "starts no run, neither a new one nor an old one"),
            ("no_record", "keeps no record in any case"),
            ("once", "leaves no trace, so it may be repeated"),
            ("wait", "does not wait for the process that holds the run"),
        )
    ),
)

_OVERRIDES = {
    # What names a whole target replaces the parts that a weaker source has given.
    "target": ("project", "database", "namespace", "local"),
    "local": ("target",),
    "project": ("target", "local"),
}
_SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")
"""Of click, the strongest first."""
_FILE = _SOURCES.index("DEFAULT_MAP")
_LOCAL_REPLACES = ("project", "database", "namespace")
"""Of the configuration file's: they are about the service. An embedded Datastore's own project
and so on come from the command line or the environment."""


def settle(ctx: click.Context) -> None:
    """Drop what a stronger source contradicts. Raises UsageError for a real contradiction."""
    for name, weaker in _OVERRIDES.items():
        if _is_set(ctx, name):
            for other in weaker:
                if _is_set(ctx, other) and _rank(ctx, other) > _rank(ctx, name):
                    _drop(ctx, other)
    if _is_set(ctx, "local") and _rank(ctx, "local") < _FILE:
        for other in _LOCAL_REPLACES:
            if _is_set(ctx, other) and _rank(ctx, other) == _FILE:
                _drop(ctx, other)
    for exclusive in EXCLUSIVE:
        given = [name for name in exclusive.names if _is_set(ctx, name)]
        if len(given) < 2:
            continue
        kept = [name for name in given if name == exclusive.never_ignored] or given
        weakest = min(_rank(ctx, name) for name in kept)
        same = [name for name in given if _rank(ctx, name) <= weakest]
        if len(same) > 1:
            raise click.UsageError(
                f"{_shown(ctx, same[0])} and {_shown(ctx, same[1])} cannot be used together: "
                f"{exclusive.why}",
                ctx,
            )
        for name in given:
            if name not in same:
                _drop(ctx, name)


def _is_set(ctx: click.Context, name: str) -> bool:
    value = ctx.params.get(name)
    if _rank(ctx, name) >= _SOURCES.index("DEFAULT"):
        return False
    return value is not None and value is not False and value != 0


def _rank(ctx: click.Context, name: str) -> int:
    """Smaller is stronger."""
    source = ctx.get_parameter_source(name)
    return _SOURCES.index(source.name) if source and source.name in _SOURCES else len(_SOURCES)


def _drop(ctx: click.Context, name: str) -> None:
    param = _param(ctx, name)
    default: Any = 0 if getattr(param, "count", False) else None
    ctx.params[name] = False if getattr(param, "is_bool_flag", False) else default
    ctx.set_parameter_source(name, click.core.ParameterSource.DEFAULT)


def _shown(ctx: click.Context, name: str) -> str:
    option = _param(ctx, name)
    # As it was most likely typed: -q, -v, -n have short forms that everybody uses.
    return min(option.opts, key=len)


def _param(ctx: click.Context, name: str) -> click.Parameter:
    return next(param for param in ctx.command.params if param.name == name)
