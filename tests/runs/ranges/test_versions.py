"""A run in ranges that another version of bulkup works on, too: what this one does not know stops
it, in a sentence, and is not overwritten."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup.core.errors import StateError
from bulkup.core.model import RunState
from bulkup.state.kinds import RANGE_KIND, RUN_KIND
from tests.conftest import Server
from tests.engine.conftest import everything, fill
from tests.runs.ranges.conftest import Increment, InThread, RunRanged

SENTENCE = "was written by another version of bulkup: run that version"


def _rewrite(server: Server, kind: str, name: str, change: Callable[[Any], object]) -> str:
    """What a later version makes of the first record of a kind; returns it as it is stored now."""
    client = server.client()
    while True:
        key = min((e.key for e in client.query(kind=kind).fetch()), key=lambda key: key.name)
        try:
            with client.transaction():
                record = client.get(key)
                assert record is not None
                there = json.loads(record[name])
                change(there)
                record[name] = json.dumps(there)
                client.put(record)
        except Exception as error:
            if getattr(error, "code", 0) != 409:  # a runner was faster
                raise
        else:
            return str(record[name])


def _later(raw: dict[str, Any]) -> None:
    raw["priority"] = "high"


def _as_it_was(raw: dict[str, Any]) -> None:
    raw.pop("priority", None)


@pytest.mark.parametrize(("kind", "name"), [(RUN_KIND, "ranges"), (RANGE_KIND, "part")])
def test_a_record_of_a_later_version_is_refused(
    embedded: Server, ranged: RunRanged, kind: str, name: str
) -> None:
    client = fill(embedded, "Thing", 60, n=0)
    ranged(embedded, Increment, ranges=4, batch_size=5, limit=10)
    stored = _rewrite(embedded, kind, name, _later)
    for ranges in (4, 0):
        try:
            report = ranged(embedded, Increment, ranges=ranges, state="other")
        except StateError as error:
            message = error.message
        else:
            message = report.reason
            assert report.state is RunState.FAILED
        assert SENTENCE in message
    assert stored in {e[name] for e in client.query(kind=kind).fetch()}
    _rewrite(embedded, kind, name, _as_it_was)
    assert ranged(embedded, Increment).success
    assert {e["n"] for e in everything(client, "Thing")} == {1}


class Held(Increment):
    """After ten entities it waits until it is told to go on, and then it is slow."""

    handled = 0
    is_there = threading.Event()
    go_on = threading.Event()

    def handle_entity(self, entity: Entity) -> None:
        Held.handled += 1
        if Held.handled == 10:
            self.is_there.set()
        if Held.handled >= 10:
            assert self.go_on.wait(60)
            time.sleep(0.02)
        super().handle_entity(entity)


def test_a_worker_stops_when_a_later_version_begins_to_conduct(
    embedded: Server, ranged: RunRanged
) -> None:
    """It does not go on with what it knew last: the rate, a pause, or a stop may be other ones."""
    Held.handled, Held.is_there, Held.go_on = 0, threading.Event(), threading.Event()
    client = fill(embedded, "Thing", 400, n=0)
    runner = InThread(lambda: ranged(embedded, Held, ranges=4, batch_size=5))
    try:
        assert Held.is_there.wait(60)
        stored = _rewrite(embedded, RUN_KIND, "ranges", _later)
    finally:
        Held.go_on.set()
    with pytest.raises(StateError, match=SENTENCE):
        runner.join()
    (record,) = client.query(kind=RUN_KIND).fetch()
    assert record["ranges"] == stored
    assert sum(e["n"] for e in everything(client, "Thing")) < 200
    _rewrite(embedded, RUN_KIND, "ranges", _as_it_was)
    assert ranged(embedded, Held, state="other").success
    assert {e["n"] for e in everything(client, "Thing")} == {1}
