"""What an error of a call is when the user has asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing

import pytest
from google.cloud import datastore
from grpc import StatusCode

from bulkup.core.errors import BulkupError, Exit, StopAskedError, TargetError
from bulkup.core.model import RunState
from bulkup.core.stop import StopRequest
from bulkup.datastore.call_error import CallError
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained_error
from bulkup.engine.outcomes import outcome_of_error


@pytest.fixture
def stop() -> StopRequest:
    return StopRequest()


@pytest.fixture
def rpc(stop: StopRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rpc]:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:9")
    policy = RetryPolicy(stopping_s=stop.seconds, stopped_by=stop.error)
    with closing(Rpc(datastore.Client(project="p"), retry_policy=policy)) as made:
        yield made


def told(rpc: Rpc, code: StatusCode) -> BulkupError:
    return explained_error(rpc, CallError("Lookup", code, "why"))


def test_without_a_stop_an_error_is_itself(rpc: Rpc) -> None:
    for code in StatusCode:
        if code is not StatusCode.OK:
            assert not isinstance(told(rpc, code), StopAskedError)


@pytest.mark.parametrize(
    ("which", "exit_code"), [(signal.SIGINT, Exit.SIGINT), (signal.SIGTERM, Exit.SIGTERM)]
)
def test_a_call_given_up_because_of_a_signal_is_no_outage(
    rpc: Rpc, stop: StopRequest, which: signal.Signals, exit_code: Exit
) -> None:
    stop.signal = which
    silent = told(rpc, StatusCode.UNAVAILABLE)
    assert silent.message == f"interrupted by {which.name} while 127.0.0.1:9 did not answer"
    assert silent.exit_code is exit_code
    assert outcome_of_error(silent).state is RunState.INTERRUPTED
    busy = told(rpc, StatusCode.RESOURCE_EXHAUSTED)
    assert busy.message == f"interrupted by {which.name} while calls failed (RESOURCE_EXHAUSTED)"


def test_a_refusal_is_told_even_after_a_signal(rpc: Rpc, stop: StopRequest) -> None:
    stop.signal = signal.SIGINT
    refused = told(rpc, StatusCode.PERMISSION_DENIED)
    assert isinstance(refused, TargetError)
    assert outcome_of_error(refused).state is RunState.FAILED


def test_a_run_cancelled_during_an_outage_is_stopped_and_not_interrupted(
    rpc: Rpc, stop: StopRequest
) -> None:
    stop.cancel("cancelled by ann@host")
    error = told(rpc, StatusCode.DEADLINE_EXCEEDED)
    assert error.message == "cancelled by ann@host while 127.0.0.1:9 did not answer"
    outcome = outcome_of_error(error)
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, Exit.CANCELLED)
