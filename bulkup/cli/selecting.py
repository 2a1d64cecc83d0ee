"""The options that narrow an updater's query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.core.errors import UsageError

if TYPE_CHECKING:
    from bulkup.core.selection import Selection


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

    def selection(self) -> Selection:
        """Raises UsageError."""
        from bulkup.core.selection import Selection

        if self.kind == "":
            raise UsageError("--kind is empty; name a kind, or leave it out")
        return Selection(self.kind or "")
