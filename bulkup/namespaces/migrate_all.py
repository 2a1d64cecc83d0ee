"""The migrations of a folder in every namespace, one after the other.

No group record: each namespace has its ledger, and that says what is applied there. So the same
command goes on, and does nothing where nothing is pending; new namespaces come in by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bulkup.core.errors import BulkupError, Exit, StopAskedError
from bulkup.core.events import GroupStarted, Warned
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.migrations.apply import Migrator, Outcome
from bulkup.namespaces.find import find, fitting, shown
from bulkup.runs.limits import RunLimits


@dataclass(frozen=True)
class SpacesOutcome:
    """What one `migrate` over namespaces did."""

    exit_code: Exit
    namespaces: tuple[str, ...] = ()
    """All that were there in the beginning."""
    outcomes: tuple[tuple[str, Outcome], ...] = ()
    """By namespace, in order; those that are missing were not begun."""
    stopped_at: str | None = None
    """The namespace that it came to an end in too early."""
    reason: str = ""
    appeared: tuple[str, ...] = ()
    """Namespaces that have appeared meanwhile."""

    @property
    def pending(self) -> tuple[str, ...]:
        """Namespaces in which something is left to do."""
        done = {namespace for namespace, outcome in self.outcomes if not outcome.left}
        if self.stopped_at is not None:
            done.discard(self.stopped_at)
        return tuple(n for n in self.namespaces if n not in done)


@dataclass
class MigrateEverywhere:
    """`migrator`: all that is the same in each namespace; its target is in any one."""

    migrator: Migrator
    pattern: str
    on_outcome: Callable[[str, Outcome], None] = lambda *_: None
    _outcomes: list[tuple[str, Outcome]] = field(default_factory=list)

    def run(self) -> SpacesOutcome:
        """Stops at the first namespace in which a migration does not come to its end.

        Raises BulkupError when nothing could begin.
        """
        target, clock, options = (
            self.migrator.target.within(""),
            self.migrator.clock,
            self.migrator.options,
        )
        stop = self.migrator.stop
        rpc = Rpc(
            target.client,
            retry_policy=RetryPolicy(options.retry_for_s, stopping_s=stop.seconds),
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )
        try:
            with explained(rpc):
                rpc.connect()
                namespaces = fitting(rpc, self.pattern)
                self.migrator.listener(
                    GroupStarted("", "migrations", target.info, self.pattern, tuple(namespaces))
                )
                ended = self._each(namespaces, RunLimits(options, clock))
                if not ended.exit_code or ended.exit_code is Exit.DONE_WITH_FAILURES:
                    appeared = find(rpc, self.pattern, known=namespaces)
                    return replace(ended, appeared=tuple(appeared))
                return ended
        finally:
            rpc.close()

    def _each(self, namespaces: Sequence[str], allowance: RunLimits) -> SpacesOutcome:
        every = tuple(namespaces)
        if not every:
            self.migrator.listener(
                Warned(f"no namespace with data fits {self.pattern!r}; nothing was done")
            )
        code = Exit.DONE
        with ExitStack() as listening:
            confirm = self._once(listening)
            for namespace in every:
                target = self.migrator.target.within(namespace)
                outcome = self._one(
                    replace(self.migrator, target=target, allowance=allowance, confirm=confirm)
                )
                self._outcomes.append((namespace, outcome))
                self.on_outcome(namespace, outcome)
                if outcome.exit_code not in (Exit.DONE, Exit.DONE_WITH_FAILURES):
                    where = f"{outcome.stopped_at}: " if outcome.stopped_at else ""
                    return SpacesOutcome(
                        outcome.exit_code,
                        every,
                        tuple(self._outcomes),
                        namespace,
                        f"{shown(namespace)}: {where}{outcome.reason}",
                    )
                code = max(code, outcome.exit_code)
        return SpacesOutcome(code, every, tuple(self._outcomes))

    def _one(self, migrator: Migrator) -> Outcome:
        try:
            migrator.stop.raise_if_asked()
            return migrator.run()
        except StopAskedError as asked:
            return Outcome(asked.exit_code, reason=asked.message)
        except BulkupError as error:
            if not self._outcomes:
                raise
            return Outcome(error.exit_code, reason=error.message)

    def _once(self, listening: ExitStack) -> Callable[[], None]:
        """Ask before the first change, for all namespaces; from then on signals are heard."""
        asked: list[bool] = []

        def confirm() -> None:
            if not asked:
                self.migrator.confirm()
                listening.enter_context(self.migrator.stop.listening())
                asked.append(True)

        return confirm
