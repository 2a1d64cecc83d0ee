"""What one call of the DoFn works on, in Beam's terms: a restriction, its tracker, its provider.

A restriction is a `Turn`: work on one range of the run. Beam may split a turn that is in progress.
Then the range is ended at a key, a new range begins at that key, and the residual is a turn at the
new range.
Only Datastore decides what is done, so turns may get lost, or come back several times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from bulkup.runs.ranges.unit import WorkingRange


@dataclass(frozen=True)
class Turn:
    """Work on one range."""

    range_id: str
    comes_back: bool = False
    """The runner brings back a deferred turn. Runners that call a Splittable DoFn as if it were an
    ordinary one (Dask) drop it."""
    is_over: bool = False
    """There is nothing left to do: another turn has taken over the work."""
    not_before: float = 0.0
    """Another worker holds the range until then (Unix time by this machine's clock). Needed because
    Beam's own runners bring a turn back at once, even if it was deferred by a minute."""


class TurnTracker(RestrictionTracker):  # type: ignore[misc]  # Beam is untyped here
    """The positions that it claims: the `WorkingRange` when the work begins and, when the work has
    ended, the `not_before` of what may be left.

    Beam calls it from several threads, one at a time.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._working: WorkingRange | None = None

    def current_restriction(self) -> Turn:
        return self._turn

    def try_claim(self, position: WorkingRange | float) -> bool:
        """Note that the work begins or ends. Returns False if another turn took it over before it
        began."""
        if isinstance(position, WorkingRange):
            self._working = position
        else:
            self._working = None
            self._turn = replace(self._turn, not_before=position)
        return not self._turn.is_over

    def try_split(self, fraction_of_remainder: float) -> tuple[Turn, Turn] | None:
        """Give away the whole turn if its work has not begun or is deferred; otherwise give away
        the end of its range."""
        turn = self._turn
        if turn.is_over or not turn.comes_back:
            return None
        if self._working is None:
            self._turn = replace(turn, is_over=True)
            return self._turn, turn
        child = self._working.try_split(fraction_of_remainder)
        return None if child is None else (turn, Turn(child, comes_back=True))

    def current_progress(self) -> RestrictionProgress:
        """The backlog is the share of the range that is left; 1 if the range has not begun."""
        share = None
        if self._working is not None:
            share = self._working.progress().share
        if self._turn.is_over:
            share = 1.0
        done = share or 0.0
        return RestrictionProgress(completed=done, remaining=1.0 - done)

    def check_done(self) -> bool:
        """Ignored: the records say what is done, not the runner."""
        return True

    def is_bounded(self) -> bool:
        return True


class Turns(RestrictionProvider):  # type: ignore[misc]
    """Makes the turns for elements, which are range ids."""

    def initial_restriction(self, element: str) -> Turn:
        return Turn(element)

    def split(self, element: str, restriction: Turn) -> Iterator[Turn]:
        """Only runners that know Splittable DoFns call this."""
        yield replace(restriction, comes_back=True)

    def create_tracker(self, restriction: Turn) -> TurnTracker:
        return TurnTracker(restriction)

    def restriction_size(self, element: str, restriction: Turn) -> float:
        return 0.0 if restriction.is_over else 1.0

    def truncate(self, element: str, restriction: Turn) -> Turn:
        """When the pipeline is drained: finish what is left, as for every bounded source."""
        return restriction
