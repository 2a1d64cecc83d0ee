"""Apply the migrations of a folder in every namespace, one after the other.

There is no group record, because each namespace has a ledger that says what is applied there. So
the same command resumes, does nothing where nothing is pending, and includes new namespaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from bulkup.core.errors import BulkupError, Exit, StopAskedError
from bulkup.core.events import Event, GroupStarted, Warned, WarningKind
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.migrations.apply import MigrateHooks, MigrateResult, Migrator, Selection
from bulkup.migrations.preview import worse_of
from bulkup.namespaces.find import display_name, find_namespaces, match_namespaces
from bulkup.runs.context import RunContext
from bulkup.runs.limits import RunLimits
from bulkup.runs.missing_kind import check_file

_DONE = (Exit.DONE, Exit.DONE_WITH_FAILURES)


@dataclass(frozen=True)
class MigrateAllResult:
    """What one `migrate` over several namespaces did."""

    exit_code: Exit
    namespaces: tuple[str, ...] = ()
    """All namespaces that matched at the start."""
    results: tuple[tuple[str, MigrateResult], ...] = ()
    """The result of each namespace, in order; a missing namespace was not started."""
    stopped_at: str | None = None
    """The namespace in which it ended early; the empty string is the default namespace."""
    reason: str | None = None
    appeared: tuple[str, ...] = ()
    """Namespaces that appeared in the meantime."""

    @property
    def pending(self) -> tuple[str, ...]:
        """Namespaces in which something is left to apply."""
        done = {namespace for namespace, result in self.results if not result.left}
        if self.stopped_at is not None:
            done.discard(self.stopped_at)
        return tuple(name for name in self.namespaces if name not in done)


class AllNamespacesMigrator:
    """One `migrate` over the namespaces that match a pattern. `target` may be in any of them."""

    def __init__(
        self,
        target: Target,
        pattern: str,
        selection: Selection,
        context: RunContext,
        hooks: MigrateHooks,
        on_result: Callable[[str, MigrateResult], None] = lambda *_: None,
    ) -> None:
        self._target = target.within("")
        self._pattern = pattern
        self._selection = selection
        self._context = replace(context, listener=self._listen)
        self._listener = context.listener
        self._hooks = hooks
        self._on_result = on_result
        self._limits = RunLimits(context.options, context.clock)
        self._results: list[tuple[str, MigrateResult]] = []
        self._said: set[str] = set()

    def _listen(self, event: Event) -> None:
        if isinstance(event, Warned) and event.kind is WarningKind.NO_NUMBER:
            if event.message in self._said:
                return  # the folder is the same in every namespace
            self._said.add(event.message)
        self._listener(event)

    def run(self) -> MigrateAllResult:
        """Migrate namespace by namespace; stop at the first in which a migration does not finish.

        Raises BulkupError when it cannot start.
        """
        with closing(self._context.connect(self._target)) as rpc, explained(rpc):
            rpc.connect()
            namespaces = tuple(match_namespaces(rpc, self._pattern))
            if not namespaces:
                check_file(self._target.info, self._context)
            self._context.listener(
                GroupStarted("", "migrations", self._target.info, self._pattern, namespaces)
            )
            result = self._migrate_each(namespaces)
            if result.exit_code not in _DONE:
                return result
            appeared = find_namespaces(rpc, self._pattern, known=namespaces)
            return replace(result, appeared=tuple(appeared))

    def _migrate_each(self, namespaces: Sequence[str]) -> MigrateAllResult:
        all_of_them = tuple(namespaces)
        if not all_of_them:
            self._context.listener(
                Warned(f"no namespace with data matches {self._pattern!r}; nothing was done")
            )
        exit_code = Exit.DONE
        with ExitStack() as stack:
            hooks = replace(self._hooks, confirm=self._confirm_once(stack))
            for namespace in all_of_them:
                result = self._migrate_one(namespace, hooks)
                self._results.append((namespace, result))
                self._on_result(namespace, result)
                if result.exit_code not in _DONE and not result.dry_run:
                    migration = f"{result.stopped_at}: " if result.stopped_at else ""
                    return MigrateAllResult(
                        result.exit_code,
                        all_of_them,
                        tuple(self._results),
                        namespace,
                        f"{display_name(namespace)}: {migration}{result.reason or ''}",
                    )
                exit_code = worse_of(exit_code, result.exit_code)
        return MigrateAllResult(exit_code, all_of_them, tuple(self._results))

    def _migrate_one(self, namespace: str, hooks: MigrateHooks) -> MigrateResult:
        target = self._target.within(namespace)
        try:
            self._context.stop.raise_if_asked()
            return Migrator(target, self._selection, self._context, hooks, self._limits).run()
        except StopAskedError as asked:
            return MigrateResult(asked.exit_code, reason=asked.message)
        except BulkupError as error:
            if not self._results:
                raise
            return MigrateResult(error.exit_code, reason=error.message)

    def _confirm_once(self, stack: ExitStack) -> Callable[[], None]:
        """Confirm before the first change, for all namespaces. From then on, listen for signals."""
        confirmed = False

        def confirm() -> None:
            nonlocal confirmed
            if not confirmed:
                self._hooks.confirm()
                stack.enter_context(self._context.stop.listening())
                confirmed = True

        return confirm
