"""A run that ends between the look at its record and the work on it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import bulkup.runs.start
from bulkup.core.errors import HeldError, NotFoundError
from bulkup.core.model import RunState
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import prepare
from bulkup.runs.start import Cutting, start
from bulkup.runs.target import TargetOptions
from bulkup.state.files import RunLock
from bulkup.state.record import RunRecord
from tests.conftest import Server
from tests.engine.conftest import Run, fill, run
from tests.runs.ranges.conftest import Increment

__all__ = ["run"]


@pytest.mark.parametrize("ranges", [0, 3])
@pytest.mark.parametrize("ended", [True, False])
def test_whoever_comes_as_a_run_ends_is_told_so(
    embedded: Server,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ranges: int,
    ended: bool,
) -> None:
    """And not that its process is working on it, though that still holds the folder."""
    monkeypatch.setattr(bulkup.runs.start, "CUT_WITHIN_S", 0.1)
    fill(embedded, "Thing", 10, n=0)
    stopped = run(embedded, Increment, limit=5)
    assert stopped.state is RunState.STOPPED
    context = RunContext(Options(), tmp_path / "state", lambda event: None)
    with (
        prepare(Increment, {}, TargetOptions(embedded.project), context) as prepared,
        ExitStack() as locked,
    ):

        def end(record: RunRecord) -> None:
            lock = RunLock(tmp_path / "state" / record.run_info.run_id)
            lock.acquire()
            locked.callback(lock.release)
            if ended:
                prepared.ledger.write(replace(record, state=RunState.FINISHED), over=True)

        with pytest.raises(
            NotFoundError if ended else HeldError,
            match="has just ended" if ended else "is working on run",
        ):
            start(prepared, on_found=end, cutting=Cutting(ranges))
