"""What `bulkup diff` and `bulkup rewind` compare: the other side, the kinds, the conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.named_target import find_target
from bulkup.cli.selecting import where_option
from bulkup.core.errors import UsageError

if TYPE_CHECKING:
    from bulkup.engine.compare.comparison import Scope
    from bulkup.runs.target import TargetOptions

PARTS = ("target", "project", "database", "namespace", "local")


class _Part(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """`NAME=VALUE` -> (name, value)."""

    name = "part"

    def __init__(self, names: Sequence[str], example: str) -> None:
        self._names, self._example = names, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, equals, rest = value.partition("=")
        if not (name and equals):
            self.fail(f"{value!r} is not NAME=VALUE; write it like {self._example}", param, ctx)
        if self._names and name not in self._names:
            self.fail(f"{name!r} is not one of {', '.join(self._names)}", param, ctx)
        return name, rest


With = Annotated[
    tuple[tuple[str, str], ...],
    click.Option(
        ["--with", "other"],
        type=_Part(PARTS, "namespace=copy"),
        envvar="BULKUP_DIFF_WITH",
        multiple=True,
        metavar="PART=VALUE",
        help="The other side, where it is another place: target=NAME, project=, database=, "
        "namespace= or local=FILE; may be repeated.  [default: the same place]",
    ),
]


@dataclass(frozen=True)
class ScopeArgs:
    kinds: Annotated[
        tuple[str, ...],
        click.Option(
            ["--kind", "kinds"],
            multiple=True,
            metavar="KIND",
            help="Only entities of this kind; may be repeated.  [default: all kinds; rewind needs "
            "at least one]",
        ),
    ]
    where: Annotated[
        tuple[str, ...],
        where_option(
            "Only entities that meet a condition, on either side: \"status = 'open' AND "
            'year IN (2025, 2026)", or status=open for short; may be repeated.'
        ),
    ]

    def scope(self) -> Scope:
        """Raises UsageError."""
        from bulkup.datastore.gql.shorthand import equalities
        from bulkup.engine.compare.comparison import Scope

        filters = [one for text in self.where for one in equalities(text)]
        return Scope(tuple(dict.fromkeys(self.kinds)), filters)


def other_options(parts: Sequence[tuple[str, str]], first: TargetOptions) -> TargetOptions:
    """The other side. A part that is not named is that of the first side. But a named target or a
    file replaces the whole place; only the namespace is that of the first side, if none is given.

    Raises UsageError.
    """
    from bulkup.runs.target import TargetOptions

    named = dict(parts)
    if len(named) < len(parts):
        raise UsageError("--with names a part twice; name each once")
    for whole, rival in (("target", "project"), ("target", "local")):
        if whole in named and rival in named:
            raise UsageError(f"--with {whole}= and {rival}= cannot be used together; choose one")
    base = first
    if "target" in named:
        target = find_target(click.get_current_context(), named["target"])
        base = TargetOptions(target.project, target.database, target.namespace, target.local)
    elif "local" in named:
        base = TargetOptions(local=named["local"])
    namespace = base.namespace if base.namespace is not None else first.namespace
    return TargetOptions(
        named.get("project", base.project),
        named.get("database", base.database),
        named.get("namespace", namespace),
        base.local,
    )
