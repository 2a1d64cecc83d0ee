"""Threads that a handler leaves behind write nothing into a later call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import Updater
from bulkup.testing import handle, offline_client
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

REFUSED = "the running handle_entity has not started"

DOES: dict[str, Callable[[Updater, Entity], None]] = {
    "put": lambda updater, other: updater.put(other),
    "put own": lambda updater, other: updater.put(updater.now),  # type: ignore[attr-defined]
    "put many": lambda updater, other: updater.put([other]),
    "delete": lambda updater, other: updater.delete(other),
    "delete own": lambda updater, other: updater.delete(updater.now),  # type: ignore[attr-defined]
    "log": lambda updater, other: updater.log("from the past"),
}


class Leaves(Updater):
    """The first call leaves a thread or a task behind, which works in the third one."""

    does: str
    pooled = False
    batch_size = 500

    def __init__(self) -> None:
        self.go, self.done = threading.Event(), threading.Event()
        self.error = ""
        self.pool = ThreadPoolExecutor(1)

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        self.now = entity
        if entity.key.id == 1:
            if self.pooled:
                self.pool.submit(self.later)
            else:
                threading.Thread(target=self.later).start()
        if entity.key.id == 3:
            self.go.set()
            assert self.done.wait(60)
        entity["n"] = 1
        self.put(entity)

    def later(self) -> None:
        assert self.go.wait(60)
        try:
            DOES[self.does](self, Entity(self.client.key("Other", 9)))
        except RuntimeError as error:
            self.error = str(error)
        self.done.set()

    def finish(self, success: bool, report: Any) -> None:
        self.pool.shutdown()
        for method in (self.put, self.delete):
            with pytest.raises(RuntimeError, match="work only while"):
                method(Entity(self.client.key("Other", 8)))
        errors.append(self.error)


errors: list[str] = []


@pytest.mark.parametrize("pooled", [False, True], ids=["thread", "pool"])
@pytest.mark.parametrize("does", DOES)
def test_what_an_earlier_call_left_behind_is_refused(
    embedded: Server, run: Run, does: str, pooled: bool
) -> None:
    client = fill(embedded, "Thing", 4)
    errors.clear()
    updater = type("Leaves", (Leaves,), {"does": does, "pooled": pooled})
    # Batches of 2: the third call is in another batch than the first.
    report = run(embedded, updater, batch_size=2)
    assert (report.reason, report.counts.puts, report.counts.deletes) == ("", 4, 0)
    assert report.log_lines == ()
    assert REFUSED in errors[0]
    assert everything(client, "Other") == []


def test_a_thread_that_outlives_its_call_by_a_moment_is_refused(embedded: Server, run: Run) -> None:
    said: list[str] = []

    class Waits(Leaves):
        def __init__(self) -> None:
            super().__init__()
            self.threads: list[threading.Thread] = []

        def handle_entity(self, entity: Entity) -> None:
            thread = threading.Thread(target=self.later)
            thread.start()
            self.threads.append(thread)
            self.put(entity)

        def later(self) -> None:
            assert self.go.wait(60)  # until nothing is handled any more
            try:
                self.log("too late")
            except RuntimeError as error:
                said.append(str(error))

        def finish(self, success: bool, report: Any) -> None:
            self.go.set()
            for thread in self.threads:
                thread.join()

    fill(embedded, "Thing", 2)
    report = run(embedded, Waits)
    assert (report.reason, report.log_lines) == ("", ())
    assert len(said) == 2
    assert all("work only while" in line for line in said)


def test_threads_and_pools_that_a_call_waits_for_may_write(embedded: Server, run: Run) -> None:
    class Waits(Leaves):
        def handle_entity(self, entity: Entity) -> None:
            def write(kind: str) -> None:
                other = Entity(self.client.key(kind, entity.key.id))
                other["n"] = entity.key.id
                self.put(other)
                self.log(kind)

            def start() -> None:
                inner = threading.Thread(target=write, args=("A",))
                inner.start()
                inner.join()

            thread = threading.Thread(target=start)
            thread.start()
            thread.join()
            # A pool of all calls, whose thread the first one has started.
            list(self.pool.map(write, ["B", "C"]))
            self.put(entity)

        def finish(self, success: bool, report: Any) -> None:
            self.pool.shutdown()

    client = fill(embedded, "Thing", 3)
    report = run(embedded, Waits)
    assert (report.reason, report.counts.failed) == ("", 0)
    for kind in "ABC":
        assert [entity["n"] for entity in everything(client, kind)] == [1, 2, 3]
    assert len(report.log_lines) == 9
    assert threading.Thread.start.__module__ == "threading", "threads are as they were before"


def test_threads_of_grpc_do_not_make_every_put_look_at_its_thread(
    embedded: Server, run: Run
) -> None:
    class Reads(Leaves):
        def handle_entity(self, entity: Entity) -> None:
            self.client.get(self.client.key("Other", entity.key.id))
            list(self.client.query(kind="Other").fetch())
            self.put(entity)

        def finish(self, success: bool, report: Any) -> None:
            looks.append(self._has_threads)

    looks: list[bool] = []
    fill(embedded, "Thing", 5)
    run(embedded, Reads, batch_size=1)
    assert looks == [False]


def test_a_unit_test_refuses_what_a_handler_left_behind() -> None:
    updater = type("Leaves", (Leaves,), {"does": "put"})()
    updater.client = offline_client()
    updater.pool.shutdown()
    for id_ in (1, 2, 3):
        writes = handle(updater, Entity(updater.client.key("Thing", id_)))
        assert len(writes.puts) == 1
    assert REFUSED in updater.error
