"""The result of each namespace of a group, from this process's reports or from run records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report, SpaceResult
from bulkup.core.model import Counts, RunState
from bulkup.core.records import first_id, next_id
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


class GroupResults:
    def __init__(self, namespaces: Sequence[str]) -> None:
        self._by_namespace = {name: SpaceResult(name, "", None) for name in namespaces}

    def __getitem__(self, namespace: str) -> SpaceResult:
        return self._by_namespace[namespace]

    def all(self) -> tuple[SpaceResult, ...]:
        return tuple(self._by_namespace.values())

    def counts(self) -> Counts:
        return sum((result.counts for result in self.all()), Counts())

    def is_over(self, namespace: str) -> bool:
        state = self._by_namespace[namespace].state
        return state is not None and state.is_over

    @property
    def all_over(self) -> bool:
        return all(map(self.is_over, self._by_namespace))

    def from_reports(self, namespace: str, reports: Sequence[Report]) -> None:
        """Set the result from the reports of a run and its successors."""
        last = reports[-1]
        exit_codes = [report.exit_code for report in reports if report.exit_code]
        self._by_namespace[namespace] = SpaceResult(
            namespace,
            "" if last.dry_run else first_id(reports[0].run_id),
            last.state,
            sum((report.counts for report in reports), Counts()),
            exit_codes[-1] if exit_codes else Exit.DONE,
            last.reason,
        )

    def fail(self, namespace: str, error: BulkupError, *, between_runs: bool) -> Exit:
        """Record that an error ended the work. `between_runs`: a run of the chain has ended, and
        its successor could not start."""
        result = self._by_namespace[namespace]
        exit_code = error.exit_code or Exit.FAILED
        state = RunState.FAILED if between_runs else result.state
        self._by_namespace[namespace] = replace(
            result, state=state, note=error.message, exit_code=exit_code
        )
        return exit_code

    def count_whole_chain(
        self, namespace: str, ledger: Ledger, run_id_of: Callable[[str], str]
    ) -> None:
        """After a chain was resumed, take the counts from the records: only they include the runs
        before the resumed one. Raises CallError."""
        exit_code = self._by_namespace[namespace].exit_code
        self.from_records([namespace], ledger, run_id_of)
        self._by_namespace[namespace] = replace(
            self._by_namespace[namespace], exit_code=exit_code, note=""
        )

    def from_records(
        self, namespaces: Sequence[str], ledger: Ledger, run_id_of: Callable[[str], str]
    ) -> dict[str, RunRecord]:
        """Set results from the run records in Datastore, and return the record of each namespace's
        first run, where there is one. Raises CallError."""
        first: dict[str, RunRecord] = {}
        places = [(namespace, run_id_of(namespace)) for namespace in namespaces]
        while places:
            found = ledger.read_in(places)
            places = []
            for (namespace, run_id), record in found.items():
                first.setdefault(namespace, record)
                self._from_record(namespace, record)
                if record.state is RunState.FINISHED:
                    places.append((namespace, next_id(run_id)))  # its successor, if it has one
        return first

    def _from_record(self, namespace: str, record: RunRecord) -> None:
        counts = record.counts
        if record.chain.links:
            counts = self._by_namespace[namespace].counts + counts
        holder = record.lease.holder
        who = holder.who if holder else "another process"
        self._by_namespace[namespace] = SpaceResult(
            namespace,
            first_id(record.run_info.run_id),
            record.state,
            counts,
            Exit.DONE_WITH_FAILURES if counts.failed else Exit.DONE,
            f"done earlier, by {who}" if record.state is RunState.FINISHED else record.reason or "",
        )
