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

from bulkup.allowance import Allowance
from bulkup.clock import Clock
from bulkup.engine.events import (
    Event,
    GroupEnded,
    GroupStarted,
    Report,
    RunEnded,
    SpaceResult,
    Warned,
)
from bulkup.engine.lease import this_process
from bulkup.engine.stop import StopRequest
from bulkup.errors import BulkupError, Exit, NotFoundError, StopAskedError
from bulkup.facts import Counts, RunState
from bulkup.jobs import Job, Runner, Task, prepare_on
from bulkup.namespaces.find import find, fitting, shown
from bulkup.namespaces.sums import Sums
from bulkup.runner import new_run_id, start
from bulkup.state.groups import Group, Groups, identity_of
from bulkup.state.ledger import Entry, Ledger
from bulkup.state.records import next_id
from bulkup.successor import first_id
from bulkup.target import Target
from bulkup.wire.client import Wire
from bulkup.wire.explain import explained
from bulkup.wire.retries import Patience
from bulkup.working import same_run

NOTHING_FOUND = "the query found no entities"
"""How the engine's warning about an empty query begins."""


@dataclass
class Everywhere:
    """One `bulkup run --namespaces`. `me.again`: the command that goes on."""

    task: Task
    target: Target
    """Of any namespace."""
    pattern: str
    me: Runner
    fresh: bool = False
    confirm: Callable[[Sequence[str]], None] = lambda _: None
    """Called with the namespaces before anything is written; may raise."""
    stop: StopRequest = field(default_factory=StopRequest)

    def __post_init__(self) -> None:
        self.clock: Clock = self.me.clock
        self._allowance = Allowance(self.me.options, self.clock)
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
        wire = Wire(
            self.target.client,
            patience=Patience(self.me.options.retry_for_s, stopping_s=self.stop.seconds),
            sleep=self.clock.sleep,
            monotonic=self.clock.monotonic,
        )
        try:
            with explained(wire):
                wire.connect()
                return self._run(wire)
        finally:
            wire.close()

    def _run(self, wire: Wire) -> Report:
        identity = identity_of(self.task.source.spec, self.task.params, self.pattern)
        groups = Groups(wire, self.target.info, identity)
        there = groups.read()
        group, resumed = there, True
        if group is None or self.fresh:
            group, resumed = self._new(fitting(wire, self.pattern), there), False
            for other in groups.others(group.updater):
                self._warn(
                    f"{other.updater} is under way in namespaces that fit {other.pattern!r} (group "
                    f"{other.group_id}), with other parameters or for another pattern; this is a "
                    "new one, and handles all entities"
                )
        if self.me.options.dry_run:
            if there is not None:
                self._warn(
                    f"group {there.group_id} of this work is unfinished: without -n the same "
                    "command goes on with it, behind what is done already"
                )
        elif group.namespaces:
            self.confirm(group.namespaces)
        with self.stop.listening():
            if group.namespaces and not self.me.options.dry_run and not resumed:
                with self._job(group.namespaces[0]):
                    pass  # a query or a server that is not right leaves no trace
                group = groups.begin(group)
            return self._work(wire, groups, group, resumed)

    def _work(self, wire: Wire, groups: Groups, group: Group, resumed: bool) -> Report:
        self._say_start(group, resumed)
        for namespace in group.namespaces:
            self._results[namespace] = SpaceResult(namespace, "", None)
        dry_run = self.me.options.dry_run
        if not dry_run:
            self._see(wire, group, group.namespaces)
        state, reason, code = self._each(wire, groups, group)
        appeared: list[str] = []
        if self._all_over and not dry_run:
            try:
                with explained(wire):
                    appeared = find(wire, self.pattern, known=group.namespaces)
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
        dry_run = self.me.options.dry_run
        self.me.listener(
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

    def _each(self, wire: Wire, groups: Groups, group: Group) -> tuple[RunState, str, Exit]:
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
                with explained(wire):
                    group = self._one(wire, groups, group, namespace)
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

    def _one(self, wire: Wire, groups: Groups, group: Group, namespace: str) -> Group:
        """Work in one namespace; gives the group as it is then. Raises BulkupError."""
        me = replace(self.me, options=self._allowance.left(), listener=self._listening)
        if me.options.dry_run:
            with self._job(namespace) as job:
                start(job, me)
            self._note_reports(namespace)
            return group

        def on_found(entry: Entry) -> None:
            nonlocal group
            if first_id(entry.record.run_id) != group.run_id(namespace):
                # Noted before it goes on: once it has finished, nothing else would tell that the
                # namespace is done.
                group = groups.adopt(group, namespace, first_id(entry.record.run_id))

        # Looked at again right before its turn: others may work on the same group.
        begun = self._see(wire, group, [namespace]).get(namespace)
        if self._is_over(namespace):
            return group
        with self._job(namespace) as job:
            if begun is not None:
                same_run(begun, job.query.identity(job.source.spec, job.params))
            try:
                run_id = group.run_id(namespace)
                start(job, me, fresh=group.fresh, run_id=run_id, on_found=on_found)
            except NotFoundError:
                # Ended by somebody else, just now.
                self._see(wire, group, [namespace])
                if not self._is_over(namespace):
                    raise
                return group
        went_on = bool(self._reports[0].predecessor)
        self._note_reports(namespace)
        if went_on and self._is_over(namespace):
            # The counts of what was before it in its chain are in the records alone.
            code = self._results[namespace].exit_code
            self._see(wire, group, [namespace])
            self._results[namespace] = replace(self._results[namespace], exit_code=code, note="")
        return group

    def _job(self, namespace: str) -> AbstractContextManager[Job]:
        return prepare_on(
            self.target.within(namespace),
            self.task,
            stop=self.stop,
            retry_for_s=self.me.options.retry_for_s,
            clock=self.clock,
            dry_run=self.me.options.dry_run,
        )

    def _listening(self, event: Event) -> None:
        self._allowance.hear(event)
        if isinstance(event, RunEnded):
            self._begun = True
            self._reports.append(event.report)
            self._sums.add(shown(self._now_in), event.report)
        if isinstance(event, Warned):
            if event.message.startswith(NOTHING_FOUND):
                return  # many a tenant has none of a kind; its row says 0
            self._sums.warn(f"{shown(self._now_in)}: {event.message}")
        self.me.listener(event)

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

    def _see(self, wire: Wire, group: Group, namespaces: Sequence[str]) -> dict[str, Entry]:
        """Note where the runs of namespaces stand, as their records say, and give these.

        Raises CallError.
        """
        ledger = Ledger(wire, self.target.info)
        first: dict[str, Entry] = {}
        asked = [(namespace, group.run_id(namespace)) for namespace in namespaces]
        while asked:
            found = ledger.read_in(asked)
            asked = []
            for (namespace, run_id), entry in found.items():
                first.setdefault(namespace, entry)
                self._note_entry(namespace, entry)
                if entry.state is RunState.FINISHED:
                    asked.append((namespace, next_id(run_id)))  # of its chain, if it has one
        return first

    def _note_entry(self, namespace: str, entry: Entry) -> None:
        chained = bool(entry.chain)
        before = self._results[namespace]
        counts = before.counts + entry.counts if chained else entry.counts
        who = entry.holder.who if entry.holder else "another runner"
        self._results[namespace] = SpaceResult(
            namespace,
            first_id(entry.record.run_id),
            entry.state,
            counts,
            Exit.DONE_WITH_FAILURES if counts.failed else Exit.DONE,
            f"done before, by {who}" if entry.state is RunState.FINISHED else entry.reason,
        )

    # --- the end ---

    def _warn(self, message: str) -> None:
        self._sums.warn(message)
        self.me.listener(Warned(message))

    def _end(
        self, group: Group, state: RunState, reason: str, code: Exit, appeared: tuple[str, ...]
    ) -> Report:
        dry_run = self.me.options.dry_run
        results, sums = tuple(self._results.values()), self._sums
        counts = sum((r.counts for r in results), Counts())
        if results and state is RunState.FINISHED and not counts.handled:
            self._warn(f"{NOTHING_FOUND} in any namespace: check the kind's name and the filters")
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
            next_command="" if self._all_over or dry_run else self.me.again,
            spaces=results,
            appeared=appeared,
        )
        self.me.listener(GroupEnded(report))
        return report
