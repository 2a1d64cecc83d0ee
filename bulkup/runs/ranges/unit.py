"""The unit of work that others can distribute: one range of a run, worked on where the caller runs.

A `RangeWorker` is a process's connection to a run that is cut into ranges. It loads the updater and
connects once, and then works on one range after the other. Datastore alone says whether a range is
free, what is done in it, and whether the run is paused or stopped. So it is safe to ask for the
same range twice, at the same time, or again after it is finished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bulkup.core.closing import Closing
from bulkup.core.environment import settled
from bulkup.core.errors import NotFoundError, UpdaterError
from bulkup.core.events import Listener, Report
from bulkup.core.model import TargetInfo
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.datastore.containment import contained
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import EMULATOR_VARIABLE, Target, resolve
from bulkup.engine.options import Options
from bulkup.runs.acquire import check_same_identity
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import PreparedRun, load_updater, prepare_on
from bulkup.runs.ranges.at_work import RangeEnd, RangeResult, RangeRunner
from bulkup.runs.ranges.ending import conclude_run
from bulkup.runs.ranges.view import RunView, Times
from bulkup.runs.ranges.working import RangeProgress, WorkingRange
from bulkup.state.files import make_private_folder
from bulkup.state.holder import this_process
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import ranges_of
from bulkup.state.record import RunRecord

__all__ = [
    "RangeEnd",
    "RangeProgress",
    "RangeResult",
    "RangeWorker",
    "RangedWork",
    "WorkingRange",
]


@dataclass(frozen=True)
class RangedWork:
    """All that a worker needs to know about a run. It can be pickled."""

    run_id: str
    spec: str
    """The argument of `authoring.loader.load` if `source` is empty. Otherwise only its `:Name` is
    used."""
    checksum: str
    """SHA-256 of the updater's file, in hex. Empty: a built-in updater, which has none."""
    target: TargetInfo
    address: str = ""
    """host:port of an emulator or of an embedded Datastore; empty: the service."""
    params: Mapping[str, str] = field(default_factory=dict)
    selection: Selection = EVERYTHING
    options: Options = field(default_factory=Options)
    source: bytes = b""
    """The content of the updater's file. The worker writes it below its scratch directory, in a
    folder named after its checksum. Empty: the worker finds the file by `spec`."""
    file_name: str = ""
    """The name of that file, without its folder."""


class RangeWorker(Closing):
    """Works on ranges of one run, from one thread at a time.

    `scratch`: a local directory for checkpoints and the updater's file. It may be lost at any time,
    and may be shared with other workers. Creating a worker raises BulkupError if the updater cannot
    be loaded or is not the run's, or if the target cannot be reached.
    """

    def __init__(
        self,
        work: RangedWork,
        scratch: Path,
        listener: Listener = lambda event: None,
        *,
        times: Times | None = None,
    ) -> None:
        self._work = work
        self._open = ExitStack()
        try:
            self._enter(work, scratch, listener, times)
        except BaseException:
            self._open.close()
            raise

    def _enter(
        self, work: RangedWork, scratch: Path, listener: Listener, times: Times | None
    ) -> None:
        make_private_folder(scratch)
        enter = self._open.enter_context
        enter(settled({EMULATOR_VARIABLE: work.address} if work.address else {}))
        info = work.target
        target = resolve(
            info.project, info.database, info.namespace,
            local=info.local, address=work.address if info.local else "",
        )  # fmt: skip
        context = RunContext(work.options, scratch, listener, reports_itself=True)
        enter(contained(context.containment(target)))
        self._prepared = enter(_prepared(work, scratch, target, context))
        self._parent = self._read_parent()
        self._holder = this_process()
        self._ledger = RangeLedger.beside(self._prepared.ledger)
        context = self._prepared.context
        self._view = enter(
            closing(
                RunView(
                    lambda: context.connect(target), target.info, self._parent, self._holder,
                    context.clock, times=times,
                )
            )
        )  # fmt: skip
        self._runner = RangeRunner(
            self._prepared, self._ledger, self._view, self._holder,
            scratch / "ranges" / self._holder.runner[:12],
            listener=listener,
        )  # fmt: skip
        with explained(self._prepared.rpc):
            self._view.look()
        self._view.start()

    def _read_parent(self) -> RunRecord:
        prepared, run_id = self._prepared, self._work.run_id
        record = prepared.ledger.read(run_id)
        if record is None or record.ranges is None:
            raise NotFoundError(f"there is no run {run_id} that is cut into ranges")
        check_same_identity(record, prepared.identity)
        return record

    def range_ids(self) -> list[str]:
        """The ids of all ranges that the run has by now, in order. Raises CallError."""
        return [one.run_info.run_id for one in ranges_of(self._ledger, self._view.record)]

    def work_on(self, range_id: str, working: WorkingRange | None = None) -> RangeResult:
        """Work on a range until it is finished, or cannot be.

        Never raises for what the user's code does, for an exhausted failure budget, or for errors
        of Datastore. A range that is not in Datastore is STOPPED.
        """
        return self._runner.work_on(range_id, self._work.options, working)

    def conclude(self) -> Report:
        """End the run if all of it is done, as `launch.conclude` does; otherwise the report says
        what is left. It may be called again, and while another process does the same.

        Raises BulkupError when the run cannot be ended.
        """
        self._leave()
        with explained(self._prepared.rpc):
            return conclude_run(self._prepared, self._work.run_id)

    def close(self) -> None:
        """Close the connections, and let others conduct the run."""
        self._leave()
        self._open.close()

    def _leave(self) -> None:
        self._view.is_working = False
        self._view.end_thread()
        self._view.let_go(self._prepared.rpc, None, "")


@contextmanager
def _prepared(
    work: RangedWork, scratch: Path, target: Target, context: RunContext
) -> Iterator[PreparedRun]:
    """The run's updater and its query, on the worker's own connection. Raises BulkupError."""
    spec = _spec_of(work, scratch)
    loaded = load_updater(spec, work.params, work.selection)
    checksum = loaded.source.checksum
    if work.checksum and checksum != work.checksum:
        raise UpdaterError(
            f"{loaded.source.path} is not the file that run {work.run_id} was started with; copy "
            "that one here, or start a new run"
        )
    with prepare_on(target, loaded, context) as prepared:
        yield prepared


def _spec_of(work: RangedWork, scratch: Path) -> str:
    """The spec that loads the updater here. Raises UpdaterError, StateError."""
    if not work.source:
        return work.spec
    checksum = hashlib.sha256(work.source).hexdigest()
    if checksum != work.checksum:
        raise UpdaterError(f"the updater's file that came with run {work.run_id} is damaged")
    folder = scratch / "source" / checksum[:16]
    make_private_folder(folder)
    path = folder / os.path.basename(work.file_name)
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.{id(work)}")
        partial.write_bytes(work.source)
        partial.chmod(0o600)
        partial.replace(path)  # so that no other worker reads half of it
    return f"{path}:{work.spec.rpartition(':')[2]}"
