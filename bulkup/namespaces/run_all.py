"""An updater over every namespace, one after the other: each a run of its own, once.

A group record holds it together (see `state.groups`). It gives every namespace's run its id before
that begins, and the insert of a run record excludes: however often the command is killed and
repeated, by whomever, a namespace whose run has finished is not run again until all have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime

from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, Exit, NotFoundError, StopAskedError
from bulkup.core.events import (
    Event,
    GroupEnded,
    GroupStarted,
    Report,
    RunEnded,
    SpaceResult,
    Warned,
    WarningKind,
)
from bulkup.core.model import Counts, RunState
from bulkup.core.records import next_id
from bulkup.core.stop import StopRequest
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.namespaces.find import find, fitting, shown
from bulkup.namespaces.sums import Sums
from bulkup.runs.execute import same_run
from bulkup.runs.limits import RunLimits
from bulkup.runs.prepare import PreparedRun, RunContext, Task, prepare_on
from bulkup.runs.start import new_run_id, start
from bulkup.runs.successor import first_id
from bulkup.state.groups import Group, Groups, identity_of
from bulkup.state.holder import this_process
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger

"""How the engine's warning about an empty query begins."""


@dataclass
class Everywhere:
    """One `bulkup run --namespaces`. `me.again`: the command that goes on."""

    task: Task
    target: Target
    """Of any namespace."""
    pattern: str
    context: RunContext
    fresh: bool = False
    confirm: Callable[[Sequence[str]], None] = lambda _: None
    """Called with the namespaces before anything is written; may raise."""
    stop: StopRequest = field(default_factory=StopRequest)

    def __post_init__(self) -> None:
        self.clock: Clock = self.context.clock
        self._allowance = RunLimits(self.context.options, self.clock)
        self._began = self.clock.now()
        self._began_at = self.clock.monotonic()
        self._results: dict[str, SpaceResult] = {}
        self._now_in = ""
        self._reports: list[Report] = []
        """Of the namespace that is worked on: its run, and those that follow."""
        self._begun = False
        self._sums = Sums()

    def run(self) -> Report:
        """Run what is not done yet; the report says where each namespace stands.

        Stops at the first namespace whose run does not finish, or whose `finish` fails. Raises
        BulkupError when nothing could begin.
        """
        self.target = self.target.within("")
        rpc = Rpc(
            self.target.client,
            retry_policy=RetryPolicy(
                self.context.options.retry_for_s, stopping_s=self.stop.seconds
            ),
            sleep=self.clock.sleep,
            monotonic=self.clock.monotonic,
        )
        try:
            with explained(rpc):
                rpc.connect()
                return self._run(rpc)
        finally:
            rpc.close()

    def _run(self, rpc: Rpc) -> Report:
        identity = identity_of(self.task.source.spec, self.task.params, self.pattern)
        groups = Groups(rpc, self.target.info, identity)
        there = groups.read()
        group, resumed = there, True
        if group is None or self.fresh:
            group, resumed = self._new(fitting(rpc, self.pattern), there), False
            for other in groups.others(group.updater):
                self._warn(
                    f"{other.updater} is under way in namespaces that fit {other.pattern!r} (group "
                    f"{other.group_id}), with other parameters or for another pattern; this is a "
                    "new one, and handles all entities"
                )
        if self.context.options.dry_run:
            if there is not None:
                self._warn(
                    f"group {there.group_id} of this work is unfinished: without -n the same "
                    "command goes on with it, behind what is done already"
                )
        elif group.namespaces:
            self.confirm(group.namespaces)
        with self.stop.listening():
            if group.namespaces and not self.context.options.dry_run and not resumed:
                with self._job(group.namespaces[0]):
                    pass  # a query or a server that is not right leaves no trace
                group = groups.begin(group)
            return self._work(rpc, groups, group, resumed)

    def _work(self, rpc: Rpc, groups: Groups, group: Group, resumed: bool) -> Report:
        self._say_start(group, resumed)
        for namespace in group.namespaces:
            self._results[namespace] = SpaceResult(namespace, "", None)
        dry_run = self.context.options.dry_run
        if not dry_run:
            self._see(rpc, group, group.namespaces)
        state, reason, code = self._each(rpc, groups, group)
        appeared: list[str] = []
        if self._all_over and not dry_run:
            try:
                with explained(rpc):
                    appeared = find(rpc, self.pattern, known=group.namespaces)
                    groups.end(group)
            except BulkupError as error:
                self._warn(
                    f"every namespace is done, but that could not be written down "
                    f"({error.message}); the same command does it, and runs none again"
                )
        return self._end(group, state, reason, code, tuple(appeared))

    def _new(self, namespaces: Sequence[str], there: Group | None) -> Group:
        return Group(
            group_id=new_run_id(self.clock),
            updater=self.task.source.name,
            params=self.task.params,
            pattern=self.pattern,
            namespaces=tuple(namespaces),
            created=self._began.isoformat(),
            who=this_process().who,
            fresh=self.fresh,
            version=there.version if there is not None else 0,
        )

    def _say_start(self, group: Group, resumed: bool) -> None:
        dry_run = self.context.options.dry_run
        self.context.listener(
            GroupStarted(
                "" if dry_run else group.group_id,
                group.updater,
                self.target.info,
                self.pattern,
                group.namespaces,
                dry_run,
                resumed and not dry_run,
            )
        )
        if not group.namespaces:
            self._warn(f"no namespace with data fits {self.pattern!r}; nothing was done")

    @property
    def _all_over(self) -> bool:
        return all(map(self._is_over, self._results))

    # --- one namespace after the other ---

    def _each(self, rpc: Rpc, groups: Groups, group: Group) -> tuple[RunState, str, Exit]:
        """Gives how it all ended."""
        code = Exit.DONE
        for namespace in group.namespaces:
            result = self._results[namespace]
            if result.state is not None and result.state.is_over:
                code = max(code, result.exit_code)
                continue
            reason = self._allowance.used_up
            if reason:
                return RunState.STOPPED, reason, Exit.LIMIT
            self._now_in = namespace
            try:
                self.stop.raise_if_asked()
                with explained(rpc):
                    group = self._one(rpc, groups, group, namespace)
            except StopAskedError as asked:
                return RunState.INTERRUPTED, asked.message, asked.exit_code
            except BulkupError as error:
                if not self._begun:
                    raise
                if error.details:
                    self._warn(error.details)
                if self._reports:  # a run of its chain has ended, and the next could not begin
                    self._note_reports(namespace)
                    result = replace(self._results[namespace], state=RunState.FAILED)
                code = error.exit_code or Exit.FAILED
                self._results[namespace] = replace(result, note=error.message, exit_code=code)
                return RunState.FAILED, f"{shown(namespace)}: {error.message}", code
            result = self._results[namespace]
            if result.exit_code not in (Exit.DONE, Exit.DONE_WITH_FAILURES):
                return self._stopped_at(result)
            code = max(code, result.exit_code)
        return RunState.FINISHED, "", code

    def _stopped_at(self, result: SpaceResult) -> tuple[RunState, str, Exit]:
        state, reason = result.state or RunState.FAILED, result.note
        if state is RunState.STOPPED:
            reason = self._allowance.used_up or reason  # its own says what was left of the limit
        elif state.is_over:
            state, reason = RunState.FAILED, "its work is done, but its finish failed"
        if state is RunState.FAILED:
            reason = f"{shown(result.namespace)}: {reason}"
        return state, reason, result.exit_code

    def _one(self, rpc: Rpc, groups: Groups, group: Group, namespace: str) -> Group:
        """Work in one namespace; gives the group as it is then. Raises BulkupError."""
        context = replace(self.context, options=self._allowance.left(), listener=self._listening)
        if context.options.dry_run:
            with self._job(namespace) as prepared:
                start(prepared, context)
            self._note_reports(namespace)
            return group

        def on_found(record: RunRecord) -> None:
            nonlocal group
            if first_id(record.run_info.run_id) != group.run_id(namespace):
                # Noted before it goes on: once it has finished, nothing else would tell that the
                # namespace is done.
                group = groups.adopt(group, namespace, first_id(record.run_info.run_id))

        # Looked at again right before its turn: others may work on the same group.
        begun = self._see(rpc, group, [namespace]).get(namespace)
        if self._is_over(namespace):
            return group
        with self._job(namespace) as prepared:
            if begun is not None:
                same_run(begun, prepared.query.identity(prepared.source.spec, prepared.params))
            try:
                run_id = group.run_id(namespace)
                start(prepared, context, fresh=group.fresh, run_id=run_id, on_found=on_found)
            except NotFoundError:
                # Ended by somebody else, just now.
                self._see(rpc, group, [namespace])
                if not self._is_over(namespace):
                    raise
                return group
        went_on = bool(self._reports[0].predecessor)
        self._note_reports(namespace)
        if went_on and self._is_over(namespace):
            # The counts of what was before it in its chain are in the records alone.
            code = self._results[namespace].exit_code
            self._see(rpc, group, [namespace])
            self._results[namespace] = replace(self._results[namespace], exit_code=code, note="")
        return group

    def _job(self, namespace: str) -> AbstractContextManager[PreparedRun]:
        return prepare_on(
            self.target.within(namespace),
            self.task,
            stop=self.stop,
            retry_for_s=self.context.options.retry_for_s,
            clock=self.clock,
            dry_run=self.context.options.dry_run,
        )

    def _listening(self, event: Event) -> None:
        self._allowance.hear(event)
        if isinstance(event, RunEnded):
            self._begun = True
            self._reports.append(event.report)
            self._sums.add(shown(self._now_in), event.report)
        if isinstance(event, Warned):
            if event.kind is WarningKind.EMPTY_QUERY:
                return  # many tenants have no entity of a kind; their rows say 0
            self._sums.warn(f"{shown(self._now_in)}: {event.message}")
        self.context.listener(event)

    def _note_reports(self, namespace: str) -> None:
        reports, self._reports = self._reports, []
        last = reports[-1]
        codes = [r.exit_code for r in reports if r.exit_code]
        self._results[namespace] = SpaceResult(
            namespace,
            "" if last.dry_run else first_id(reports[0].run_id),
            last.state,
            sum((r.counts for r in reports), Counts()),
            codes[-1] if codes else Exit.DONE,
            last.reason,
        )

    # --- what others have done ---

    def _is_over(self, namespace: str) -> bool:
        state = self._results[namespace].state
        return state is not None and state.is_over

    def _see(self, rpc: Rpc, group: Group, namespaces: Sequence[str]) -> dict[str, RunRecord]:
        """Note where the runs of namespaces stand, as their records say, and give these.

        Raises CallError.
        """
        ledger = Ledger(rpc, self.target.info)
        first: dict[str, RunRecord] = {}
        asked = [(namespace, group.run_id(namespace)) for namespace in namespaces]
        while asked:
            found = ledger.read_in(asked)
            asked = []
            for (namespace, run_id), record in found.items():
                first.setdefault(namespace, record)
                self._note_entry(namespace, record)
                if record.state is RunState.FINISHED:
                    asked.append((namespace, next_id(run_id)))  # of its chain, if it has one
        return first

    def _note_entry(self, namespace: str, record: RunRecord) -> None:
        chained = bool(record.chain.links)
        before = self._results[namespace]
        counts = before.counts + record.counts if chained else record.counts
        holder = record.lease.holder
        who = holder.who if holder else "another runner"
        self._results[namespace] = SpaceResult(
            namespace,
            first_id(record.run_info.run_id),
            record.state,
            counts,
            Exit.DONE_WITH_FAILURES if counts.failed else Exit.DONE,
            f"done before, by {who}" if record.state is RunState.FINISHED else record.reason or "",
        )

    # --- the end ---

    def _warn(self, message: str, kind: WarningKind = WarningKind.OTHER) -> None:
        self._sums.warn(message)
        self.context.listener(Warned(message, kind))

    def _end(
        self, group: Group, state: RunState, reason: str, code: Exit, appeared: tuple[str, ...]
    ) -> Report:
        dry_run = self.context.options.dry_run
        results, sums = tuple(self._results.values()), self._sums
        counts = sum((r.counts for r in results), Counts())
        if results and state is RunState.FINISHED and not counts.handled:
            self._warn(
                "the query found no entities in any namespace: check the kind's name and the "
                "filters",
                WarningKind.EMPTY_QUERY,
            )
        report = Report(
            run_id="" if dry_run or not results else group.group_id,
            updater=group.updater,
            description=self.task.source.description,
            target=self.target.info,
            params=self.task.params,
            dry_run=dry_run,
            state=state,
            reason=reason,
            exit_code=code,
            counts=counts,
            total=None,
            started=datetime.fromisoformat(group.created),
            ended=self.clock.now(),
            elapsed_s=self.clock.monotonic() - self._began_at,
            retries=sums.retries,
            failures=tuple(sums.failures),
            log_lines=tuple(sums.log_lines),
            log_total=sums.log_total,
            warnings=sums.some_warnings(),
            next_command="" if self._all_over or dry_run else self.context.again,
            spaces=results,
            appeared=appeared,
        )
        self.context.listener(GroupEnded(report))
        return report
