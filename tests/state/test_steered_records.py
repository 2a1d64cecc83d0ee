"""Steering in the run record: seen by the runner between its renewals, and never by two at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.records import NoSource, RunInfo
from bulkup.core.steering import NO_TUNING, UNSTEERED, Steering, Tuning, Verb
from bulkup.core.stop import StopRequest
from bulkup.datastore.messages import EntityPb
from bulkup.datastore.rpc import Rpc
from bulkup.state.holder import this_process
from bulkup.state.lease import Lease
from bulkup.state.raw_entities import own_key
from bulkup.state.record import LOOK_EVERY_S, RENEW_S, RunRecord
from bulkup.state.record_codec import read_record, write_record
from bulkup.state.run_records import Ledger, RecordMovedOn
from bulkup.state.taking import take
from tests.conftest import Server


class Hands:
    """A clock that is set by hand; the lease itself is by the real one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(monotonic=lambda: self.now)


@pytest.fixture
def ledger(embedded: Server) -> Iterator[Ledger]:
    client = embedded.client()
    rpc = Rpc(client)
    yield Ledger(rpc, TargetInfo(embedded.project))
    rpc.close()
    client.close()


def begun(ledger: Ledger, hands: Hands, clock: Clock) -> Lease:
    run_info = RunInfo.new(
        "run-1", NoSource("Up"), {}, TargetInfo("p"), identity="work", created=clock.now()
    )
    held = take(
        ledger, RunRecord(run_info, RunState.RUNNING), this_process(),
        clock=clock, stop=StopRequest(),
    )  # fmt: skip
    return Lease(
        ledger, held, clock=hands.clock, refresh=lambda record: record, look_every_s=LOOK_EVERY_S
    )


def ticking(lease: Lease, condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        lease.tick()
        assert time.monotonic() < give_up
        time.sleep(0.001)


def steered(ledger: Ledger, verb: Verb, tuning: Tuning = NO_TUNING) -> Steering:
    record = ledger.read("run-1")
    assert record is not None
    steering = record.steering.after(verb, by="ann@far", at=1.0, tuning=tuning)
    assert steering is not None
    ledger.write(replace(record, steering=steering))
    return steering


def test_a_runner_sees_what_is_asked_in_its_record_before_it_renews(ledger: Ledger) -> None:
    hands, clock = Hands(), Clock()
    lease = begun(ledger, hands, clock)
    paused = steered(ledger, Verb.PAUSE)
    hands.now = LOOK_EVERY_S + 0.1
    ticking(lease, lambda: lease.record.steering == paused)
    tuned = steered(ledger, Verb.TUNE, Tuning(batch_size=5))
    hands.now += LOOK_EVERY_S - 0.5
    lease.tick()
    assert lease.record.steering == paused  # it is not time yet
    # A renewal that meets another's change adopts it, too, and the next one is accepted.
    hands.now = RENEW_S + 0.1
    ticking(lease, lambda: lease.record.steering == tuned)
    lease.update(lambda record: replace(record, obeyed=2))
    there = ledger.read("run-1")
    assert there is not None
    assert (there.steering, there.obeyed) == (tuned, 2)
    assert there.lease.holder == lease.record.lease.holder


def test_a_process_that_lost_the_run_finds_out_when_it_looks(ledger: Ledger) -> None:
    hands, clock = Hands(), Clock()
    lease = begun(ledger, hands, clock)
    there = ledger.read("run-1")
    assert there is not None
    other = replace(there.lease, holder=this_process(), generation=2)
    ledger.write(replace(there, lease=other))
    hands.now = LOOK_EVERY_S + 0.1
    with pytest.raises(HeldError, match="has taken over run run-1"):
        ticking(lease, lambda: False)


def test_of_two_who_steer_at_once_the_second_is_refused(ledger: Ledger) -> None:
    begun(ledger, Hands(), Clock())
    first = second = ledger.read("run-1")
    assert first is not None
    assert second is not None
    paused = first.steering.after(Verb.PAUSE, by="a", at=1.0)
    assert paused is not None
    ledger.write(replace(first, steering=paused))
    with pytest.raises(RecordMovedOn):  # as is a late copy of its commit
        ledger.write(replace(second, steering=replace(paused, by="b")))


def test_a_steering_is_stored_and_what_nobody_knows_is_ignored() -> None:
    run_info = RunInfo.new(
        "run-1", NoSource("Up"), {}, TargetInfo("p"), identity="work", created=Clock().now()
    )
    paused = UNSTEERED.after(Verb.PAUSE, by="ann@far", at=1.5)
    assert paused is not None
    record = RunRecord(run_info, RunState.RUNNING, steering=paused, obeyed=1)
    pb = EntityPb()
    write_record(pb, own_key(TargetInfo("p"), "BulkupRun", "run-1"), record)
    assert read_record(pb, 0) == record
    pb.properties["steering"].string_value = '{"state": "dancing"}'
    assert read_record(pb, 0).steering == UNSTEERED
    del pb.properties["steering"], pb.properties["obeyed"]
    assert read_record(pb, 0) == replace(record, steering=UNSTEERED, obeyed=0)
