"""The run's connection goes silent: nothing is lost, and the run ends when it was asked to."""

from __future__ import annotations

import time

import pytest

from bulkup.core.clock import Clock
from bulkup.core.model import RunState
from bulkup.datastore.retry import ATTEMPT_TIMEOUT_S
from bulkup.engine.options import Options
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Pass, Seen
from tests.conftest import Server

RETRY_FOR_S = 4.0


def options(retry_for_s: float) -> Options:
    return Options(batch_size=5, in_flight=2, retry_for_s=retry_for_s)


@pytest.mark.client_side
def test_a_run_continues_on_a_new_connection_when_its_own_goes_silent(
    server: Server, make_world: MakeWorld
) -> None:
    """Its own connection never answers again."""
    world = make_world(server, 30)

    def hush(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth == 3:
            world.proxy.hush()
        return Pass()

    world.proxy.faults = hush
    report = world.run("IncrementWithChild", options(20.0), clock=Clock())
    assert (report.exit_code, report.counts.handled) == (0, 30)
    assert report.retries > 0
    assert world.violations(children=True) == []


@pytest.mark.client_side
def test_a_run_ends_after_the_time_to_retry_for_when_the_network_stays_silent(
    server: Server, make_world: MakeWorld
) -> None:
    world = make_world(server, 30)
    silent_since = 0.0

    def hush(seen: Seen) -> Action:
        nonlocal silent_since
        if seen.method == "Commit" and seen.nth == 2:
            silent_since = time.monotonic()
            world.proxy.hush(new_ones_too=True)
        return Pass()

    world.proxy.faults = hush
    report = world.run("IncrementWithChild", options(RETRY_FOR_S), clock=Clock())
    took_s = time.monotonic() - silent_since
    assert report.state is RunState.FAILED
    assert "stopped answering" in report.reason
    assert RETRY_FOR_S <= took_s < ATTEMPT_TIMEOUT_S
    world.proxy.hush(new_ones_too=False)
    assert world.resume(Options(batch_size=5)).exit_code == 0
    assert world.violations(children=True) == []
