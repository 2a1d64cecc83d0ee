"""Execute an updater in many namespaces, one after the other, once in each.

A group record holds the runs together (see `state.groups`). It sets the id of each namespace's run
before that run starts, and the insert of a run record succeeds only once. So however often the
command is killed and repeated, by whatever process, a namespace whose run has finished is not run
again until all have finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from bulkup.core.errors import BulkupError, Exit, NotFoundError, StopAskedError
from bulkup.core.events import GroupEnded, GroupStarted, Report, SpaceResult, WarningKind
from bulkup.core.model import Counts, GateResult, RunState
from bulkup.core.records import first_id, new_run_id
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.engine.checks import has_check
from bulkup.namespaces.find import display_name, find_namespaces, match_namespaces
from bulkup.namespaces.group_checks import (
    check_approvals,
    check_namespaces,
    done_before,
    with_gate_of,
)
from bulkup.namespaces.group_gate import gates_of, pass_gate_of_group
from bulkup.namespaces.results import GroupResults
from bulkup.namespaces.runs_listener import RunsListener
from bulkup.namespaces.unheard import (
    forget_unheard_groups,
    note_all_done,
    note_reported,
    report_unheard_group,
)
from bulkup.runs.acquire import check_same_identity
from bulkup.runs.context import RunContext
from bulkup.runs.ended import report_unheard_run
from bulkup.runs.limits import RunLimits
from bulkup.runs.missing_kind import check_file, check_kind
from bulkup.runs.prepare import LoadedUpdater, PreparedRun, prepare_on
from bulkup.runs.start import start
from bulkup.state.groups import Group, Groups, find_group, identity_of
from bulkup.state.holder import this_process
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


def run_in_namespaces(
    loaded: LoadedUpdater,
    target: Target,
    pattern: str,
    context: RunContext,
    *,
    fresh: bool = False,
    confirm: Callable[[Sequence[str]], None] = lambda _: None,
) -> Report:
    """Execute an updater in each namespace that matches a pattern, unless it is done there.

    Stops at the first namespace whose run does not finish; the report has the result of each
    namespace. `target` may be in any namespace. `fresh`: start new runs even where one is
    unfinished. `confirm` is called with the namespaces before anything is written, and may raise.
    Raises BulkupError if nothing could start.
    """
    target = target.within("")
    with closing(context.connect(target)) as rpc, explained(rpc):
        rpc.connect()
        group_run = GroupRun(loaded, target, rpc, pattern, context.by_server_time(rpc), fresh=fresh)
        return group_run.run(confirm)


def resume_group(
    loaded: LoadedUpdater, target: Target, group_id: str, context: RunContext
) -> Report:
    """Resume an unfinished group. Raises NotFoundError if it is over, and BulkupError if nothing
    could start."""
    target = target.within("")
    with closing(context.connect(target)) as rpc, explained(rpc):
        rpc.connect()
        found = find_group(rpc, target.info, group_id)
    if found is None:
        raise NotFoundError(
            f"group {group_id} is finished, so there is nothing to resume; "
            f"`bulkup show {group_id}` shows its report"
        )
    return run_in_namespaces(loaded, target, found[1].pattern, context)


class _Ending(NamedTuple):
    state: RunState
    reason: str
    exit_code: Exit


class GroupRun:
    """One execution of `bulkup run --namespaces`."""

    def __init__(
        self,
        loaded: LoadedUpdater,
        target: Target,
        rpc: Rpc,
        pattern: str,
        context: RunContext,
        *,
        fresh: bool,
    ) -> None:
        self._loaded = loaded
        self._target = target
        self._rpc = rpc
        self._pattern = pattern
        self._context = context
        self._fresh = fresh
        self._dry_run = context.options.dry_run
        self._ledger = Ledger(rpc, target.info)
        self._identity = identity_of(loaded.source.spec, loaded.params, pattern, loaded.selection)
        self._groups = Groups(rpc, target.info, self._identity)
        self._limits = RunLimits(context.options, context.clock)
        self._started = context.clock.now()
        self._started_at = context.clock.monotonic()
        self._runs = RunsListener(context.listener, self._limits)
        self._results = GroupResults(())
        self._gate: GateResult | None = None
        self._gates: dict[str, GateResult] = {}
        """The dry passes that came before this group, by namespace."""

    def run(self, confirm: Callable[[Sequence[str]], None]) -> Report:
        unfinished = self._groups.read()
        if self._fresh and not self._dry_run:
            forget_unheard_groups(self._context, self._identity)
        elif unfinished is None and not self._dry_run:
            target = self._target.info
            report = report_unheard_group(self._context, target, self._pattern, self._identity)
            if report is not None:
                return report
        resumed = unfinished is not None and not self._fresh
        if unfinished is not None and resumed:
            group = unfinished
            check_namespaces(group, self._pattern)
            self._context = with_gate_of(group, self._context)
        else:
            group = self._new_group(replaces=unfinished)
            self._warn_of_similar(group)
        if not group.namespaces:
            check_file(self._target.info, self._context)
        if self._dry_run:
            if unfinished is not None:
                self._runs.warn(
                    f"group {unfinished.group_id} of the same work is unfinished; without "
                    "--dry-run this command resumes it after the entities that are done"
                )
        elif group.namespaces:
            confirm(group.namespaces)
        with self._context.stop.listening():
            if group.namespaces and not self._dry_run and not resumed:
                with self._prepare(group.namespaces[0]) as prepared:
                    for warning in done_before(prepared, self._context, fresh=self._fresh):
                        self._runs.warn(warning.message, warning.kind)
                    check_kind(prepared)  # so that a wrong query leaves no trace
                    checked = has_check(prepared.updater, "check_before")
                check_approvals(group, self._target.info, self._context, self._prepare)
                if self._context.gate:
                    closed = self._pass_gate(checked=checked)
                    if closed is not None:
                        return closed
                group = self._groups.begin(group)
            return self._run_group(group, resumed)

    def _new_group(self, replaces: Group | None) -> Group:
        return Group(
            group_id=new_run_id(self._context.clock.now()),
            updater=self._loaded.source.name,
            params=self._loaded.params,
            pattern=self._pattern,
            namespaces=tuple(match_namespaces(self._rpc, self._pattern)),
            created=self._started.isoformat(),
            who=this_process().who,
            fresh=self._fresh,
            gate=self._context.gate,
            version=replaces.version if replaces is not None else 0,
        )

    def _pass_gate(self, *, checked: bool) -> Report | None:
        """Dry-run all namespaces before the first of them is written to. Returns the report if the
        dry run is not clean. Raises BulkupError."""
        options = replace(self._limits.remaining(), limit=None)

        def dry_run(context: RunContext) -> Report:
            loaded, pattern = self._loaded, self._pattern
            group_run = GroupRun(
                loaded, self._target, self._rpc, pattern, context, fresh=self._fresh
            )
            return group_run.run(lambda _: None)

        context = replace(self._context, options=options)
        report, self._gate = pass_gate_of_group(self._target, context, dry_run, checked=checked)
        self._gates = gates_of(report, self._gate)
        return None if self._gate.passed else report

    def _warn_of_similar(self, group: Group) -> None:
        for other in self._groups.others(group.updater):
            self._runs.warn(
                f"group {other.group_id} of {other.updater} is unfinished, with other parameters "
                f"or pattern ({other.pattern!r}); this is a new group, and handles all entities"
            )

    def _run_group(self, group: Group, resumed: bool) -> Report:
        self._context.listener(
            GroupStarted(
                "" if self._dry_run else group.group_id,
                group.updater,
                self._target.info,
                self._pattern,
                group.namespaces,
                self._dry_run,
                resumed and not self._dry_run,
                self._loaded.selection,
            )
        )
        if not group.namespaces:
            self._runs.warn(f"no namespace with data matches {self._pattern!r}; nothing was done")
        self._results = GroupResults(group.namespaces)
        if not self._dry_run:
            self._report_unheard(self._read_results(group, group.namespaces))
        ending = self._run_each(group)
        appeared: list[str] = []
        if self._results.all_over and not self._dry_run:
            try:
                with explained(self._rpc):
                    appeared = find_namespaces(self._rpc, self._pattern, known=group.namespaces)
                    if group.namespaces:
                        note_all_done(self._context, group.group_id, self._identity)
                    self._groups.end(group)
            except BulkupError as error:
                self._runs.warn(
                    f"every namespace is done, but recording that failed ({error.message}); repeat "
                    "the command to record it, which runs nothing again"
                )
        return self._end(group, ending, tuple(appeared))

    # --- one namespace after the other ---

    def _run_each(self, group: Group) -> _Ending:
        exit_code = Exit.DONE
        for namespace in group.namespaces:
            if not self._results.is_over(namespace):
                limit = self._limits.reached()
                if limit is not None:
                    code = Exit.DONE if self._dry_run else Exit.LIMIT  # nothing to resume
                    return _Ending(RunState.STOPPED, limit, code)
                self._runs.namespace = namespace
                try:
                    self._context.stop.raise_if_asked()
                    with explained(self._rpc):
                        group = self._run_one(group, namespace)
                except StopAskedError as asked:
                    return _Ending(RunState.INTERRUPTED, asked.message, asked.exit_code)
                except BulkupError as error:
                    if not self._runs.any_ended:
                        raise
                    return self._failed(namespace, error)
                result = self._results[namespace]
                if result.exit_code not in (Exit.DONE, Exit.DONE_WITH_FAILURES):
                    return self._stopped_at(result)
            exit_code = max(exit_code, self._results[namespace].exit_code)
        return _Ending(RunState.FINISHED, "", exit_code)

    def _failed(self, namespace: str, error: BulkupError) -> _Ending:
        if error.details:
            self._runs.warn(error.details)
        between_runs = bool(self._runs.reports)
        if between_runs:
            self._results.from_reports(namespace, self._runs.take_reports())
        exit_code = self._results.fail(namespace, error, between_runs=between_runs)
        reason = f"{display_name(namespace)}: {error.message}"
        return _Ending(RunState.FAILED, reason, exit_code)

    def _stopped_at(self, result: SpaceResult) -> _Ending:
        state, reason = result.state or RunState.FAILED, result.note
        if state is RunState.STOPPED:
            # The run's own reason states only the part of the limit that was left for this run.
            reason = self._limits.reached() or reason
        if state is RunState.FAILED:
            reason = f"{display_name(result.namespace)}: {reason}"
        return _Ending(state, reason, result.exit_code)

    def _run_one(self, group: Group, namespace: str) -> Group:
        """Execute the run of one namespace; return the updated group. Raises BulkupError."""
        if self._dry_run:
            with self._prepare(namespace) as prepared:
                report = start(prepared)
            self._results.from_reports(namespace, self._runs.take_reports() or [report])
            return group

        def on_found(record: RunRecord) -> None:
            nonlocal group
            run_id = first_id(record.run_info.run_id)
            if run_id != group.run_id(namespace):
                # Recorded before the run is resumed: once it has finished, nothing else would show
                # that the namespace is done.
                group = self._groups.adopt(group, namespace, run_id)

        # Read again right before its turn: other processes may work on the same group.
        existing = self._read_results(group, [namespace]).get(namespace)
        if self._results.is_over(namespace):
            return group
        run_id = group.run_id(namespace)
        with self._prepare(namespace) as prepared:
            prepared.gate = self._gates.get(namespace)
            if existing is not None:
                check_same_identity(existing, prepared.identity)
            try:
                report = start(prepared, fresh=group.fresh, run_id=run_id, on_found=on_found)
            except NotFoundError:
                # Another process has just ended this run.
                self._read_results(group, [namespace])
                if not self._results.is_over(namespace):
                    raise
                return group
        reports = self._runs.take_reports() or [report]  # work that was done before emits no events
        # A dry pass that was not clean has done nothing.
        reports = [replace(one, counts=Counts()) if one.dry_run else one for one in reports]
        self._results.from_reports(namespace, reports)
        if reports[0].predecessor and self._results.is_over(namespace):
            self._results.count_whole_chain(namespace, self._ledger, group.run_id)
        return group

    def _prepare(self, namespace: str) -> AbstractContextManager[PreparedRun]:
        context = replace(
            self._context,
            options=self._limits.remaining(),
            listener=self._runs,
            on_done=lambda _: True,  # see `group_checks.done_before`
        )
        return prepare_on(self._target.within(namespace), self._loaded, context)

    def _read_results(self, group: Group, namespaces: Sequence[str]) -> dict[str, RunRecord]:
        return self._results.from_records(namespaces, self._ledger, group.run_id)

    def _report_unheard(self, records: Mapping[str, RunRecord]) -> None:
        """Report the finished runs whose process was killed before it could report them."""
        context = replace(self._context, listener=self._runs)
        for namespace, record in records.items():
            if record.state is RunState.FINISHED:
                self._runs.namespace = namespace
                ledger = Ledger(self._rpc, self._target.within(namespace).info)
                report_unheard_run(context, ledger, record)
        self._runs.take_reports()  # the results come from the records

    def _end(self, group: Group, ending: _Ending, appeared: tuple[str, ...]) -> Report:
        results, totals, clock = self._results.all(), self._runs.totals, self._context.clock
        counts = self._results.counts()
        if results and ending.state is RunState.FINISHED and not counts.handled:
            self._runs.warn(
                "the query found no entities in any namespace: check the kind's name and the "
                "filters",
                WarningKind.EMPTY_QUERY,
            )
        resume_command = self._context.resume_command
        can_resume = not self._results.all_over and not self._dry_run
        report = Report(
            run_id="" if self._dry_run or not results else group.group_id,
            updater=group.updater,
            description=self._loaded.source.description,
            target=self._target.info,
            params=self._loaded.params,
            selection=self._loaded.selection,
            dry_run=self._dry_run,
            state=ending.state,
            reason=ending.reason,
            exit_code=ending.exit_code,
            counts=counts,
            total=None,
            started=datetime.fromisoformat(group.created),
            ended=clock.now(),
            elapsed_s=clock.monotonic() - self._started_at,
            retries=totals.retries,
            failures=tuple(totals.failures),
            failure_groups=totals.groups.largest_first(),
            other_failures=totals.groups.others,
            log_lines=tuple(totals.log_lines),
            log_total=totals.log_total,
            warnings=totals.warnings(),
            next_command=resume_command() if resume_command and can_resume else "",
            spaces=results,
            appeared=appeared,
            gate=self._gate,
        )
        self._context.listener(GroupEnded(report))
        note_reported(self._context, report)
        return report
