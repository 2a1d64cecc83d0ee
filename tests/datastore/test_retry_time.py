"""How long a call is retried, in a time that passes only when somebody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.retry import RetryPolicy

Code = grpc.StatusCode


class Failed(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = lambda: code, lambda: details


@dataclass
class World:
    """A connection whose every attempt fails as `fails` says: after how long, and with what."""

    fails: Callable[[float], tuple[float, grpc.StatusCode] | None]
    """Takes the timeout; None: it is answered."""
    retry_policy: RetryPolicy
    contacted: bool = True
    now: float = 1000.0
    outage_s: float = 0.0
    heard_at: float = 0.0
    arrived: threading.Event = field(default_factory=threading.Event)
    new_connections: int = 0
    refreshes: int = 0
    metadata: tuple[()] = ()

    def monotonic(self) -> float:
        return self.now

    def on_tick(self) -> None:
        pass

    def on_retry(self, *_: Any) -> None:
        pass

    def nap(self, seconds: float) -> None:
        self.now += seconds

    def refresh_credentials(self, since: float, error: CallError) -> None:
        self.refreshes += 1

    def fell_silent(self, since: float) -> None:
        self.new_connections += 1

    @property
    def methods(self) -> dict[str, Any]:
        return {"Lookup": self}

    def future(self, payload: bytes, *, timeout: float, metadata: Any) -> Any:
        return Attempt(self, timeout)

    def call(self) -> Call[bytes]:
        return Call(self, "Lookup", b"", lambda answer: answer)


class Attempt:
    def __init__(self, world: World, timeout: float) -> None:
        self._world = world
        self._failure = world.fails(timeout)
        self._arrived = False

    def add_done_callback(self, told: Callable[[Any], None]) -> None:
        self._told = told

    def arrive(self) -> None:
        if not self._arrived:
            self._arrived = True
            self._world.now += self._failure[0] if self._failure else 0
            self._told(self)

    def result(self, timeout: float) -> bytes:
        self.arrive()
        if self._failure is None:
            return b"answer"
        raise Failed(self._failure[1], "no answer")


def silent(timeout: float) -> tuple[float, grpc.StatusCode]:
    return timeout, Code.DEADLINE_EXCEEDED


def refused(timeout: float) -> tuple[float, grpc.StatusCode]:
    return 0.0, Code.UNAVAILABLE


def unanswered_pings(timeout: float) -> tuple[float, grpc.StatusCode]:
    return (30.0, Code.UNAVAILABLE) if timeout > 30 else silent(timeout)


@pytest.mark.parametrize("fails", [silent, refused, unanswered_pings])
@pytest.mark.parametrize("retry_for_s", [3, 10, 20, 45, 60, 240, 600, 3600])
def test_a_call_is_retried_for_as_long_as_was_asked_and_no_longer(
    fails: Any, retry_for_s: float
) -> None:
    world = World(fails, RetryPolicy(retry_for_s))
    began = world.now
    with pytest.raises(CallError):
        world.call().result()
    assert retry_for_s * 0.95 <= world.now - began <= retry_for_s * 1.06


@pytest.mark.parametrize("retry_for_s", [10, 60, 240, 600])
def test_silence_leaves_time_for_another_connection(retry_for_s: float) -> None:
    world = World(silent, RetryPolicy(retry_for_s))
    with pytest.raises(CallError):
        world.call().result()
    assert world.new_connections >= 3


def test_all_calls_of_an_outage_share_its_time() -> None:
    """A run that ends because Datastore is away has more calls to look after."""
    world = World(silent, RetryPolicy(240))
    calls = [world.call() for _ in range(4)]
    began = world.now
    for call in calls:
        with pytest.raises(CallError):
            call.result()
    world.retry_policy = world.retry_policy.once()
    with pytest.raises(CallError):
        world.call().result()
    # Real attempts wait side by side; these wait one after the other, so each adds its own.
    first_attempts_s = 3 * 60
    assert world.now - began - first_attempts_s <= 240 * 1.1


def test_an_answer_ends_the_outage() -> None:
    answers = iter([False, False, True] + 40 * [False])
    world = World(lambda timeout: None if next(answers) else silent(timeout), RetryPolicy(240))
    assert world.call().result() == b"answer"
    began = world.now
    with pytest.raises(CallError):
        world.call().result()
    assert world.now - began >= 240 * 0.95


def test_time_in_which_nobody_waited_for_the_call_does_not_count() -> None:
    """A handler takes a quarter of an hour while its page has failed long ago."""
    answers = iter([False, False, True])
    world = World(lambda timeout: None if next(answers) else refused(timeout), RetryPolicy(60))
    call = world.call()
    call._future.arrive()
    world.now += 900
    assert call.result() == b"answer"


def unauthenticated(timeout: float) -> tuple[float, grpc.StatusCode]:
    return 0.1, Code.UNAUTHENTICATED


def test_a_refused_token_is_renewed_in_a_run_that_works() -> None:
    answers = iter([False, True])
    world = World(
        lambda timeout: None if next(answers) else unauthenticated(timeout), RetryPolicy(600)
    )
    assert world.call().result() == b"answer"
    assert world.refreshes == 1


@pytest.mark.parametrize(("contacted", "refreshes"), [(True, 4), (False, 0)])
def test_a_token_that_stays_refused_ends_the_call(contacted: bool, refreshes: int) -> None:
    world = World(unauthenticated, RetryPolicy(600), contacted=contacted)
    began = world.now
    with pytest.raises(CallError) as failed:
        world.call().result()
    assert failed.value.lacks_permission
    assert world.refreshes == refreshes
    assert world.now - began < 20
