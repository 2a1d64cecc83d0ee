"""Connecting and closing: no gRPC thread may keep working on a closed channel."""

from __future__ import annotations

import socket
import threading

import pytest
from google.cloud import datastore

from bulkup.datastore.rpc import Rpc


class Interrupted(Exception):
    pass


def test_closing_waits_for_the_threads_that_watch_the_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        rpc = Rpc(datastore.Client(project="p"))

        def interrupt() -> None:
            raise Interrupted

        rpc.on_tick = interrupt
        others = set(threading.enumerate())
        with pytest.raises(Interrupted):
            rpc.connect()
        assert set(threading.enumerate()) - others  # or this test would show nothing
        close = rpc._channel.close
        at_work: list[threading.Thread] = []

        def closed() -> None:
            at_work.extend(set(threading.enumerate()) - others)
            close()

        monkeypatch.setattr(rpc._channel, "close", closed)
        rpc.close()
        assert at_work == []
