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
    """At most one of `names`; `why` completes the error for two of them."""

    names: tuple[str, ...]
    why: str
    never_ignored: str = ""
    """The one of `names` that a stronger source does not override: then both are refused."""


EXCLUSIVE = (
    Exclusive(("quiet", "verbose"), "one prints less, the other more; choose one"),
    Exclusive(("target", "project"), "each names a project; choose one"),
    Exclusive(("target", "local"), "each says where the data is; choose one"),
    Exclusive(("local", "from_export"), "each says where the data is; choose one"),
    Exclusive(("all_namespaces", "namespaces", "namespace"), "choose one"),
    Exclusive(("to", "only"), "choose one"),
    Exclusive(("plan", "keys_from"), "a plan is of what the query finds; choose one"),
    *(
        Exclusive(("keys_from", name), "a list of keys takes the place of the query; choose one")
        for name in ("ancestor", "where")
    ),
    Exclusive(("data", "from_export"), "each says what to load; choose one"),
    Exclusive(("from_export", "id_field"), "the entities of an export have keys; leave it out"),
    *(
        Exclusive(("export", name), "an export holds whole entities, in one form; leave it out")
        for name in ("limit", "lossless")
    ),
    Exclusive(("full", "sample"), "--full handles all entities; leave one out"),
    *(
        Exclusive((option, name), f"{what} for one namespace; leave one out")
        for option, what in (("keys_from", "a list of keys is"), ("until_clean", "passes are"))
        for name in ("all_namespaces", "namespaces")
    ),
    Exclusive(("keys_from", "until_clean"), "a list of keys is handled once; leave one out"),
    Exclusive(("no_record", "until_clean"), "the record tells what a pass has done; leave one out"),
    *(
        Exclusive(("dry_run", name), f"a dry run {why}; leave one out", never_ignored="dry_run")
        for name, why in (
            ("new", "starts no run, neither a new one nor an old one"),
            ("no_record", "keeps no record in any case"),
            ("until_clean", "writes nothing that another pass could find"),
            ("once", "leaves no trace, so it may be repeated"),
            ("gate", "is what --gate clean does first"),
            ("plan", "carries out no plan"),
            ("wait", "does not wait for the process that holds the run"),
            ("verify", "writes nothing that could be verified"),
        )
    ),
)

_OVERRIDES = {
    # What names a whole target replaces the parts that a weaker source has given.
    "target": ("project", "database", "namespace", "local"),
    "local": ("target",),
    "project": ("target", "local"),
}
_SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")
"""Sources in click, the strongest first. A value from any other source counts as not set."""
_FILE = _SOURCES.index("DEFAULT_MAP")
_LOCAL_REPLACES = ("project", "database", "namespace")
"""Settings in the configuration file that `--local` replaces, because they are about the service.
Those of an embedded Datastore come from the command line or the environment."""


def settle(ctx: click.Context) -> None:
    """Drop what a stronger source contradicts. Raises UsageError for a real contradiction."""
    ranks = _ranks(ctx)
    for name, weaker in _OVERRIDES.items():
        if name in ranks:
            for other in weaker:
                if ranks.get(other, -1) > ranks[name]:
                    _drop(ctx, ranks, other)
    if ranks.get("local", _FILE) < _FILE:
        for other in _LOCAL_REPLACES:
            if ranks.get(other) == _FILE:
                _drop(ctx, ranks, other)
    for exclusive in EXCLUSIVE:
        given = [name for name in exclusive.names if name in ranks]
        if len(given) < 2:
            continue
        kept = [name for name in given if name == exclusive.never_ignored] or given
        weakest = min(ranks[name] for name in kept)
        same = [name for name in given if ranks[name] <= weakest]
        if len(same) > 1:
            raise click.UsageError(
                f"{_shown(ctx, same[0])} and {_shown(ctx, same[1])} cannot be used together: "
                f"{exclusive.why}",
                ctx,
            )
        for name in given:
            if name not in same:
                _drop(ctx, ranks, name)


def _ranks(ctx: click.Context) -> dict[str, int]:
    """For each option that is set, the index of its source: a smaller one is stronger."""
    ranks = {}
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        if value not in (None, False) and source is not None and source.name in _SOURCES:
            ranks[name] = _SOURCES.index(source.name)
    return ranks


def _drop(ctx: click.Context, ranks: dict[str, int], name: str) -> None:
    del ranks[name]
    param = _param(ctx, name)
    default: Any = 0 if getattr(param, "count", False) else None
    ctx.params[name] = False if getattr(param, "is_bool_flag", False) else default
    ctx.set_parameter_source(name, click.core.ParameterSource.DEFAULT)


def _shown(ctx: click.Context, name: str) -> str:
    option = _param(ctx, name)
    if isinstance(option, click.Argument):
        return option.human_readable_name.upper()
    # As it was most likely typed: -q, -v, -n have short forms that everybody uses.
    return min(option.opts, key=len)


def _param(ctx: click.Context, name: str) -> click.Parameter:
    return next(param for param in ctx.command.params if param.name == name)
