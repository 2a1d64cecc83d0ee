"""A run starts with requests that are sent together, and ends with one commit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import pytest

from bulkup.core.errors import NotFoundError
from bulkup.core.model import RunState
from bulkup.engine.completion import Completion
from bulkup.engine.options import Options
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.kinds import CLAIM_KIND
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Delay, Late, Lose, Pass, Seen, Twice, no_faults
from tests.conftest import Server

OPTIONS = Options(batch_size=5, in_flight=2, shards=3)


def test_the_first_requests_of_a_run_are_sent_together(
    embedded: Server, make_world: MakeWorld
) -> None:
    """None of the six is answered before the last one has arrived."""
    world = make_world(embedded)
    together = threading.Barrier(6)

    def faults(seen: Seen) -> Action:
        asks_ledger = seen.method == "RunQuery" and b"BulkupRun" in seen.payload
        claim = seen.method == "Lookup" and CLAIM_KIND.encode() in seen.payload
        if asks_ledger or claim or b"__scatter__" in seen.payload:
            together.wait(10)
        return Pass()

    world.proxy.faults = faults
    assert world.run("Increment", OPTIONS).success
    assert not together.broken
    assert world.violations() == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "harm",
    [
        Lose(grpc.StatusCode.UNAVAILABLE),
        Late(grpc.StatusCode.UNAVAILABLE, after=None),
        Twice(give_second=True),
    ],
    ids=["its answer lost", "late", "twice"],
)
def test_the_commit_that_ends_a_run_survives_every_fault(
    server: Server, make_world: MakeWorld, harm: Action
) -> None:
    world = make_world(server)
    ends = 0

    def faults(seen: Seen) -> Action:
        nonlocal ends
        if seen.method == "Upkeep" and b"finished" in seen.payload:
            ends += 1
            return harm if ends == 1 else Pass()
        return Pass()

    world.proxy.faults = faults
    assert world.run("Increment", OPTIONS).success
    world.proxy.faults = no_faults
    world.proxy.release()
    assert ends == (1 if isinstance(harm, Twice) else 2)
    assert world.record_states() == [RunState.FINISHED]
    assert world.markers() == []
    assert list(world.client.query(kind=CLAIM_KIND).fetch()) == []
    assert world.violations() == []


@pytest.mark.chaos
def test_markers_that_do_not_fit_the_last_commit_are_removed_after_it(
    legacy: Server, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This server accepts 25 entity groups in a transaction."""
    at_once: list[bool] = []
    real = Completion._finish_at_once

    def seen(ending: Completion, *args: object) -> bool:
        at_once.append(real(ending, *args))  # type: ignore[arg-type]
        return at_once[-1]

    monkeypatch.setattr(Completion, "_finish_at_once", seen)
    world = make_world(legacy, 200)
    # Delayed, so that each shard has several commits in flight until its end.
    world.proxy.faults = lambda seen: Delay(0.2) if seen.method == "Commit" else Pass()
    assert world.run("Increment", Options(batch_size=5, in_flight=4, shards=8)).success
    assert at_once == [False]
    assert world.record_states() == [RunState.FINISHED]
    assert world.markers() == []
    assert world.violations() == []


def test_an_end_whose_answer_was_lost_is_not_undone(
    embedded: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    """Its commit also removed the markers: without them a reopened run would apply writes twice."""
    world = make_world(embedded, 60)
    lost = batches = 0
    done = Checkpoint.batch_done

    def faults(seen: Seen) -> Action:
        nonlocal lost
        if seen.method == "Upkeep" and b"finished" in seen.payload and not lost:
            lost += 1
            return Lose(grpc.StatusCode.UNAVAILABLE)
        return Pass()

    def counting(checkpoint: Checkpoint, *args: Any, **more: Any) -> None:
        nonlocal batches
        done(checkpoint, *args, **more)
        batches += 1
        if batches == 6:
            world.checkpoint_copy(tmp_path / "old")

    world.proxy.faults = faults
    with patch.object(Checkpoint, "batch_done", counting):
        world.run("Increment", Options(batch_size=5, in_flight=2, retry_for_s=0.0))
    world.proxy.faults = no_faults
    assert lost == 1
    assert batches > 6
    assert world.record_states() == [RunState.FINISHED]
    world.restore_checkpoint(tmp_path / "old")
    with pytest.raises(NotFoundError, match="is finished"):
        world.resume(OPTIONS)
    assert world.violations() == []
