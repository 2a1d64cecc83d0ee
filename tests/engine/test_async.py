"""async def handle_entity: many entities wait at once, and each lands or fails for itself."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from google.cloud import ndb
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater, param
from bulkup.core.errors import Exit, UsageError
from bulkup.testing import handle, offline_client
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill
from tests.engine.test_raised import RAISED

pytestmark = pytest.mark.sampled(5)


class Waits(Updater):
    max_failures = -1
    concurrency = 8

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    async def handle_entity(self, entity: Entity) -> None:
        await self.wait(entity)
        entity["n"] += 1
        self.put(entity)

    async def wait(self, entity: Entity) -> None:
        await asyncio.sleep(0)


def numbers(client: Any, kind: str = "Thing") -> list[int]:
    return [entity["n"] for entity in everything(client, kind)]


@pytest.mark.parametrize("options", [{}, {"shards": 3, "batch_size": 5}, {"dry_run": True}])
def test_as_many_are_handled_at_once_as_concurrency_says(
    embedded: Server, run: Run, options: dict[str, Any]
) -> None:
    class Meets(Waits):
        """Each waits until 8 are there."""

        at_once = most = 0

        async def wait(self, entity: Entity) -> None:
            cls = type(self)
            if cls.at_once == 0:
                cls.full = asyncio.Event()  # type: ignore[attr-defined]
            cls.at_once += 1
            cls.most = max(cls.most, cls.at_once)
            if cls.at_once == 8:
                cls.full.set()  # type: ignore[attr-defined]
            await asyncio.wait_for(cls.full.wait(), 60)  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            cls.at_once -= 1

    client = fill(embedded, "Thing", 24, n=0)
    report = run(embedded, Meets, **options)
    assert (report.reason, report.counts.puts, report.counts.failed) == ("", 24, 0)
    assert Meets.most == 8
    assert numbers(client) == [int("dry_run" not in options)] * 24


def test_as_many_may_block_in_threads(embedded: Server, run: Run) -> None:
    """asyncio's own default is fewer threads than that on a small machine."""

    class Blocks(Waits):
        concurrency = 40
        all_are_there = threading.Barrier(40)

        async def wait(self, entity: Entity) -> None:
            await asyncio.to_thread(self.all_are_there.wait, 60)

    client = fill(embedded, "Thing", 40, n=0)
    assert run(embedded, Blocks).reason == ""
    assert numbers(client) == [1] * 40


def test_what_ends_first_is_not_committed_first(embedded: Server, run: Run) -> None:
    """With batches of 2, killed after any commit, the first entities are those that are done."""

    class Backwards(Waits):
        started = 0
        done: list[int]

        async def wait(self, entity: Entity) -> None:
            cls = type(self)
            if not cls.started:
                cls.done, cls.all = [], asyncio.Event()  # type: ignore[attr-defined]
            cls.started += 1
            if cls.started == 8:
                cls.all.set()  # type: ignore[attr-defined]
            await cls.all.wait()  # type: ignore[attr-defined]
            while len(cls.done) + entity["i"] < 8:
                await asyncio.sleep(0)
            cls.done.append(entity["i"])
            self.log(entity["i"])

    fill(embedded, "Thing", 8, n=0)
    report = run(embedded, Backwards, batch_size=2)
    assert Backwards.done == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [str(line) for line in report.log_lines] == ["1", "2", "3", "4", "5", "6", "7", "8"]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_an_async_handler_raises_is_the_failure_of_its_entity(
    embedded: Server, run: Run, error: BaseException
) -> None:
    class Raises(Waits):
        async def wait(self, entity: Entity) -> None:
            await asyncio.sleep(0)
            if entity["i"] == 3:
                raise error
            if entity["i"] == 5:  # in a task of its own
                await asyncio.gather(self.fails())

        async def fails(self) -> None:
            raise error

    client = fill(embedded, "Thing", 8, n=0)
    report = run(embedded, Raises, batch_size=3)
    assert report.exit_code == Exit.DONE_WITH_FAILURES
    assert sorted(f.key for f in report.failures) == ["Key('Thing', 3)", "Key('Thing', 5)"]
    assert numbers(client) == [1, 1, 0, 1, 0, 1, 1, 1]


def test_a_ctrl_c_that_an_async_handler_hears_ends_the_run(embedded: Server, run: Run) -> None:
    class Raises(Waits):
        async def wait(self, entity: Entity) -> None:
            if entity["i"] == 3:
                raise KeyboardInterrupt

    fill(embedded, "Thing", 5, n=0)
    with pytest.raises(KeyboardInterrupt):
        run(embedded, Raises)


def test_each_write_belongs_to_its_entity_wherever_it_comes_from(
    embedded: Server, run: Run
) -> None:
    """Tasks, threads and pools inherit whose they are, however the handlers take turns."""
    pool = ThreadPoolExecutor(2)

    class Spreads(Waits):
        async def handle_entity(self, entity: Entity) -> None:
            i = entity["i"]
            rng = random.Random(i)

            def write(kind: str) -> None:
                other = Entity(self.client.key(kind, i))
                other["n"] = i
                self.put(other)

            async def later(kind: str) -> None:
                await asyncio.sleep(rng.random() / 100)
                write(kind)

            await asyncio.gather(later("Gathered"), later("Too"))
            await asyncio.to_thread(write, "Thread")
            await asyncio.get_running_loop().run_in_executor(None, write, "Executor")
            await asyncio.wrap_future(pool.submit(write, "Pool"))
            thread = threading.Thread(target=write, args=("Own",))
            thread.start()
            thread.join()
            assert bulkup.client() is self.client
            entity["n"] = i
            self.put(entity)
            if i % 5 == 0:
                raise ValueError("no")

    client = fill(embedded, "Thing", 20, n=0)
    report = run(embedded, Spreads, batch_size=4)
    pool.shutdown()
    good = [i for i in range(1, 21) if i % 5]
    assert report.counts.failed == 4
    for kind in ("Gathered", "Too", "Thread", "Executor", "Pool", "Own"):
        assert numbers(client, kind) == good, kind
    assert [n for n in numbers(client) if n] == good


def test_a_task_that_is_left_running_fails_its_entity(embedded: Server, run: Run) -> None:
    tasks = []

    class Leaves(Waits):
        async def wait(self, entity: Entity) -> None:
            if entity["i"] == 2:
                tasks.append(asyncio.create_task(self.later(entity)))

        async def later(self, entity: Entity) -> None:
            await asyncio.sleep(3600)

    client = fill(embedded, "Thing", 3, n=0)
    report = run(embedded, Leaves)
    (failure,) = report.failures
    assert "left a task running (" in failure.error
    assert "Leaves.later" in failure.error
    assert "await it" in failure.error
    assert numbers(client) == [1, 0, 1]
    assert tasks[0].cancelled()


def test_what_an_earlier_call_left_behind_writes_into_no_other_one(
    embedded: Server, run: Run
) -> None:
    """A task of a library may go on; a thread too. Neither writes any more."""
    said: list[str] = []

    class Leaves(Waits):
        concurrency = 1

        async def wait(self, entity: Entity) -> None:
            cls = type(self)
            if entity["i"] == 1:
                cls.go, cls.gone = threading.Event(), asyncio.Event()  # type: ignore[attr-defined]
                cls.thread = threading.Thread(target=self.in_thread)  # type: ignore[attr-defined]
                cls.thread.start()  # type: ignore[attr-defined]
                cls.task = asyncio.ensure_future(  # type: ignore[attr-defined]
                    asyncio.wait_for(cls.gone.wait(), 60)  # type: ignore[attr-defined]
                )
                cls.task.add_done_callback(lambda _: self.tries())  # type: ignore[attr-defined]
            elif entity["i"] == 3:
                cls.go.set()  # type: ignore[attr-defined]
                cls.thread.join()  # type: ignore[attr-defined]
                cls.gone.set()  # type: ignore[attr-defined]
                await cls.task  # type: ignore[attr-defined]

        def in_thread(self) -> None:
            assert type(self).go.wait(60)  # type: ignore[attr-defined]
            self.tries()

        def tries(self) -> None:
            try:
                self.put(Entity(self.client.key("Other", 1)))
            except RuntimeError as error:
                said.append(str(error))

    client = fill(embedded, "Thing", 4, n=0)
    report = run(embedded, Leaves)
    assert (report.reason, report.counts.puts) == ("", 4)
    assert len(said) == 2
    assert all("the running handle_entity has not started" in line for line in said)
    assert everything(client, "Other") == []


@pytest.mark.client_side
def test_what_an_async_handler_reads_guards_what_it_writes(server: Server, run: Run) -> None:
    live = server.client()

    class Bills(Waits):
        raced: ClassVar[set[int]] = set()

        async def handle_entity(self, entity: Entity) -> None:
            i = entity["i"]
            bill = self.client.get(self.client.key("Bill", i))
            await asyncio.sleep(0)
            if i in (2, 4) and i not in self.raced:
                self.raced.add(i)
                theirs = live.get(live.key("Bill" if i == 2 else "Thing", i))
                theirs["n"] += 100
                live.put(theirs)
            entity["n"] += 1
            bill["n"] += 1
            self.put(entity, bill)

    client = fill(server, "Thing", 5, n=0)
    fill(server, "Bill", 5, n=0)
    report = run(server, Bills)
    assert (report.counts.failed, report.counts.conflicts) == (0, 2)
    assert numbers(client) == [1, 1, 1, 101, 1]
    assert numbers(client, "Bill") == [1, 101, 1, 1, 1]


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"shards": 2}], ids=str)
def test_async_handlers_count_in_one_counter(
    embedded: Server, run: Run, options: dict[str, Any]
) -> None:
    class Counts(Waits):
        async def handle_entity(self, entity: Entity) -> None:
            key = self.client.key("Total", 1)
            total = self.client.get(key) or Entity(key)
            await asyncio.sleep(0.001 * (entity["i"] % 3))
            total["n"] = total.get("n", 0) + 1
            self.put(total)

    client = fill(embedded, "Thing", 20)
    report = run(embedded, Counts, **options)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert numbers(client, "Total") == [20]


@bulkup.updater(kind="Thing", concurrency=4)
async def patches(entity: Entity, *, step: int = 1) -> Any:
    await asyncio.sleep(0)
    return {"n": step}


@bulkup.updater(kind="Thing", concurrency=4)
async def yields(entity: Entity) -> Any:
    entity["n"] = 5
    yield entity
    await asyncio.sleep(0)
    other = Entity(bulkup.client().key("Other", entity["i"]))
    other["n"] = 6
    yield other


def test_async_functions_return_or_yield_what_others_do(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 6, n=0)
    assert run(embedded, patches, params={"step": 3}).reason == ""
    assert numbers(client) == [3] * 6
    assert run(embedded, yields).reason == ""
    assert (numbers(client), numbers(client, "Other")) == ([5] * 6, [6] * 6)


@dataclass
class Thing:
    i: int
    n: int


class TakesModels(Updater[Thing]):
    kind = "Thing"

    async def handle_entity(self, thing: Thing) -> None:
        await asyncio.sleep(0.001 * (thing.i % 3))
        thing.n += 1
        self.put(thing)


@bulkup.updater(kind="Thing")
async def adds_ten(thing: Thing) -> Any:
    await asyncio.sleep(0)
    thing.n += 10
    return thing


@bulkup.updater(kind="Thing")
async def yields_models(thing: Thing) -> Any:
    thing.n += 100
    yield thing
    await asyncio.sleep(0)


def test_async_handlers_take_models(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 12, n=0)
    for updater, n in (TakesModels, 1), (adds_ten, 11), (yields_models, 111):
        assert run(embedded, updater).reason == ""
        assert numbers(client) == [n] * 12


def test_an_async_handler_of_models_that_writes_nothing_stops_the_run(
    embedded: Server, run: Run
) -> None:
    class Forgets(Updater[Thing]):
        kind = "Thing"

        async def handle_entity(self, thing: Thing) -> None:
            await asyncio.sleep(0)
            thing.n += 1

    fill(embedded, "Thing", 3, n=0)
    assert run(embedded, Forgets).exit_code == Exit.FAILED


class Model(ndb.Model):  # type: ignore[misc]
    n = ndb.IntegerProperty()


def test_models_of_ndb_are_not_for_async_handlers(embedded: Server, run: Run) -> None:
    class Asks(Updater[Model]):
        kind = Model  # type: ignore[assignment]

        async def handle_entity(self, thing: Model) -> None: ...

    with pytest.raises(UsageError, match="Model is a model of a library that cannot be awaited"):
        run(embedded, Asks)


def test_what_an_async_method_returns_is_refused(embedded: Server, run: Run) -> None:
    class Returns(Waits):
        async def handle_entity(self, entity: Entity) -> Any:
            return entity

    fill(embedded, "Thing", 1)
    (failure,) = run(embedded, Returns).failures
    assert "handle_entity of Returns returned a LazyEntity, which writes nothing" in failure.error


def test_changes_that_an_async_handler_never_writes_stop_the_run(
    embedded: Server, run: Run
) -> None:
    class Forgets(Waits):
        async def handle_entity(self, entity: Entity) -> None:
            await asyncio.sleep(0)
            entity["n"] = 1

    fill(embedded, "Thing", 5, n=0)
    report = run(embedded, Forgets)
    assert report.exit_code == Exit.FAILED
    assert "self.put" in report.reason


def test_how_many_at_once_may_be_a_parameter(embedded: Server, run: Run) -> None:
    class Chosen(Waits):
        concurrency: int = param(2)

    client = fill(embedded, "Thing", 3, n=0)
    assert run(embedded, Chosen, params={"concurrency": 5}).reason == ""
    assert numbers(client) == [1, 1, 1]
    with pytest.raises(UsageError, match="concurrency of Chosen is 0"):
        run(embedded, Chosen, params={"concurrency": 0})


def test_a_limit_counts_entities_and_resume_handles_the_others(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 20, n=0)
    first = run(embedded, Waits, limit=7)
    assert (first.exit_code, first.counts.handled) == (Exit.LIMIT, 7)
    second = run(embedded, Waits)
    assert (second.exit_code, second.counts.handled) == (Exit.DONE, 20)
    assert numbers(client) == [1] * 20


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_an_updater_has_opened_is_closed_on_its_loop(
    embedded: Server, run: Run, dry_run: bool
) -> None:
    seen: list[object] = []

    class Opens(Waits):
        async def wait(self, entity: Entity) -> None:
            seen.append(asyncio.get_running_loop())

        async def aclose(self) -> None:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() in seen
            seen.append("closed")
            raise ValueError("late")

    fill(embedded, "Thing", 2, n=0)
    report = run(embedded, Opens, dry_run=dry_run)
    assert seen[-1] == "closed"
    assert len(set(seen[:-1])) == 1
    assert any("aclose of Opens raised ValueError: late" in line for line in report.warnings)
    assert all(thread.name != "bulkup-loop" for thread in threading.enumerate())


def test_a_run_may_begin_inside_a_running_event_loop(embedded: Server, run: Run) -> None:
    """A notebook has one; the handlers' loop is another one."""

    async def in_a_loop() -> str:
        return str(run(embedded, Waits).reason)

    client = fill(embedded, "Thing", 3, n=0)
    assert asyncio.run(in_a_loop()) == ""
    assert numbers(client) == [1] * 3


def test_a_unit_test_awaits_an_async_handler() -> None:
    updater = Waits()
    updater.client = offline_client()
    entity = Entity(updater.client.key("Thing", 1))
    entity["n"] = 1
    assert handle(updater, entity).puts[0]["n"] == 2

    async def in_a_loop() -> int:
        return int(handle(updater, entity).puts[0]["n"])

    assert asyncio.run(in_a_loop()) == 3
    assert handle(patches, entity, step=9).puts[0]["n"] == 9
    assert [put["n"] for put in handle(yields, {"i": 1}).puts] == [5, 6]
