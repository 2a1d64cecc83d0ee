"""The options that narrow an updater's query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import click

if TYPE_CHECKING:
    from bulkup.core.selection import Selection


class Condition(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """An environment variable holds one a line."""

    name = "condition"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line.strip()]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


@dataclass(frozen=True)
class SelectionArgs:
    kind: Annotated[
        str | None,
        click.Option(
            ["--kind"],
            metavar="KIND",
            help="Only entities of this kind. An updater without a query of its own needs it.",
        ),
    ]
    ancestor: Annotated[
        str | None,
        click.Option(
            ["--ancestor"],
            metavar="KEY",
            help='Only this entity and those below it: "KEY(Customer, 5)".',
        ),
    ]
    where: Annotated[
        tuple[str, ...],
        click.Option(
            ["--where"],
            type=Condition(),
            multiple=True,
            metavar="CONDITION",
            help="Only entities that meet a condition of GQL: \"age > 30 AND country = 'CH'\"; may "
            "be repeated.",
        ),
    ]

    def selection(self) -> Selection:
        """Raises UsageError."""
        from bulkup.core.selection import EVERYTHING

        if self.kind is None and self.ancestor is None and not self.where:
            return EVERYTHING
        from bulkup.engine.selecting import selection_of

        return selection_of(self.kind, self.ancestor, self.where or ())
