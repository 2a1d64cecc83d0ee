"""The options that narrow an updater's query, and the commands that only read what is selected."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.options import TargetArgs
from bulkup.core.errors import Exit, NotFoundError, StopAskedError

if TYPE_CHECKING:
    from bulkup.core.events import Event
    from bulkup.core.selection import Selection
    from bulkup.runs.prepare import PreparedRun


class Condition(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A condition of GQL. An environment variable holds one per line."""

    name = "condition"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line.strip()]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


def where_option(help_text: str) -> click.Option:
    """The option --where, which may be repeated: all conditions must hold."""
    return click.Option(
        ["--where"], type=Condition(), multiple=True, metavar="CONDITION", help=help_text
    )


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
        where_option(
            "Only entities that meet a condition of GQL: \"age > 30 AND country = 'CH'\"; may be "
            "repeated."
        ),
    ]

    def selection(self) -> Selection:
        """Raises UsageError."""
        from bulkup.core.selection import EVERYTHING

        if self.kind is None and self.ancestor is None and not self.where:
            return EVERYTHING
        from bulkup.engine.selecting import selection_of

        return selection_of(self.kind, self.ancestor, self.where or ())


@contextmanager
def reading(
    updater: str | None,
    params: Sequence[str],
    selection: SelectionArgs,
    target: TargetArgs,
    *,
    json: bool,
) -> Iterator[PreparedRun]:
    """What is selected, ready to be read. Without `json`, prints the query on standard error.

    Raises BulkupError.
    """
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.core.events import Warned
    from bulkup.report.text import clean
    from bulkup.runs.find import prepare_reading, query_of

    if params and updater is None:
        raise click.UsageError("-p sets a parameter of an updater; name the updater, too")

    def listen(event: Event) -> None:
        if isinstance(event, Warned):
            click.echo(clean(f"Warning: {event.message}"), err=True)

    given = parse_assignments(params)
    chosen = selection.selection()
    try:
        # What the updater's file prints must not mix with the results.
        with (
            redirect_stdout(sys.stderr),
            prepare_reading(updater, given, chosen, target.options(), listen) as prepared,
        ):
            if not json:
                click.echo(clean(f"{query_of(prepared)} on {prepared.target.info}"), err=True)
            yield prepared
    except NotFoundError as error:
        raise _or_kind(error, updater, selection) from error
    except KeyboardInterrupt:
        raise StopAskedError("Interrupted; the result is not complete.", Exit.SIGINT) from None


def _or_kind(error: NotFoundError, updater: str | None, selection: SelectionArgs) -> NotFoundError:
    """The error; if the typed word may be the name of a kind, it also says how to select that
    kind."""
    is_word = updater is not None and not (
        selection.kind or any(mark in updater for mark in "/:") or updater.endswith(".py")
    )
    if updater is None or not is_word:
        return error
    what, _, advice = error.message.partition("; ")
    other = f" ({advice})" if advice.startswith("did you mean") else ""
    return NotFoundError(
        f"{what}{other}; to select the entities of a kind, write --kind {shlex.quote(updater)}"
    )
