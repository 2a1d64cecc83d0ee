"""A connection that goes silent and stays open; real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from google.cloud import datastore

from bulkup.datastore import channel
from bulkup.datastore.call_error import CallError
from bulkup.datastore.retry import ATTEMPT_TIMEOUT_S, RetryPolicy
from bulkup.datastore.rpc import Rpc
from tests.chaos.proxy import Action, Pass, Proxy, Seen, proxy_to
from tests.conftest import Server


@pytest.fixture
def proxy(embedded: Server) -> Iterator[Proxy]:
    with proxy_to(embedded.host) as proxy:
        yield proxy


def connected(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, retry_for_s: float) -> Rpc:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", proxy.address)
    rpc = Rpc(datastore.Client(project="p"), retry_policy=RetryPolicy(retry_for_s))
    rpc.allocate_ids([])
    return rpc


def seconds_to_allocate(rpc: Rpc) -> float:
    began = time.monotonic()
    rpc.allocate_ids([])
    return time.monotonic() - began


def test_a_silent_connection_is_left_for_a_new_one(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc = connected(proxy, monkeypatch, retry_for_s=16)
    proxy.hush()
    rpc.allocate_ids([])  # the old one never answers again
    rpc.close()


def test_pings_find_a_silent_connection_before_the_deadline(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"grpc.keepalive_time_ms": 300, "grpc.http2.ping_timeout_ms": 300}
    options = tuple((name, quick.get(name, value)) for name, value in channel._OPTIONS)
    monkeypatch.setattr(channel, "_OPTIONS", options)
    rpc = connected(proxy, monkeypatch, retry_for_s=600)
    proxy.hush()
    assert seconds_to_allocate(rpc) < ATTEMPT_TIMEOUT_S
    rpc.close()


def test_a_server_that_is_slow_and_answers_pings_keeps_its_connection(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"grpc.keepalive_time_ms": 100, "grpc.http2.ping_timeout_ms": 2_000}
    options = tuple((name, quick.get(name, value)) for name, value in channel._OPTIONS)
    monkeypatch.setattr(channel, "_OPTIONS", options)
    rpc = connected(proxy, monkeypatch, retry_for_s=600)

    def slow(seen: Seen) -> Action:
        time.sleep(0.5)
        return Pass()

    proxy.faults = slow
    seen = sum(proxy.seen.values())
    assert seconds_to_allocate(rpc) >= 0.5
    assert sum(proxy.seen.values()) == seen + 1
    rpc.close()


def test_a_network_that_is_silent_for_good_ends_the_wait_when_asked(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc = connected(proxy, monkeypatch, retry_for_s=3)
    proxy.hush(new_ones_too=True)
    began = time.monotonic()
    with pytest.raises(CallError):
        rpc.allocate_ids([])
    assert 3 <= time.monotonic() - began < ATTEMPT_TIMEOUT_S
    rpc.close()
