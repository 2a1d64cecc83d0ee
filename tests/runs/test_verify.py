"""What `bulkup verify` finds and does not find, beside live writers, and that it writes nothing."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.errors import BulkupError, Exit, MismatchError, UsageError
from bulkup.core.events import Event, Found, Report
from bulkup.core.model import RunState
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.messages import QueryPb
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.target import resolve
from bulkup.engine import suspects
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import prepare
from bulkup.runs.target import TargetOptions
from bulkup.runs.verify import verify
from tests.conftest import Server
from tests.engine.conftest import fill

Verify = Callable[..., Report]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verify on a server, with a state directory that must never appear."""
    monkeypatch.setattr(suspects, "RECHECK_S", 0.1)

    def check_on(server: Server, updater: Any, **options: Any) -> Report:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        out = options.pop("out", None)
        listener = options.pop("listener", lambda event: None)
        state = tmp_path / "no-state"
        context = RunContext(Options(dry_run=True, **options), state, listener)
        target = TargetOptions(project=server.project)
        with prepare(updater, {}, target, context) as prepared:
            report = verify(prepared, out)
        assert not state.exists()
        return report

    return check_on


def keys_of(report: Report) -> set[str]:
    return {key for group in report.failure_groups for key in group.keys}


def named(*ids: int) -> set[str]:
    return {f"Key('Thing', {i})" for i in ids}


@bulkup.updater(kind="Thing")
def double(entity: Entity) -> Entity:
    entity["twice"] = 2 * entity["i"]
    return entity


def all_bytes(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every entity of a project with its version, bulkup's own among them."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    rpc = open_rpc(resolve(server.project), RetryPolicy(60.0))
    try:
        query = QueryPb()
        query.limit.value = 300
        return sorted(
            result.entity.SerializeToString(deterministic=True) + b"%d" % result.version
            for result in rpc.results(query, "")
        )
    finally:
        rpc.close()


# --- what is done, and what is not ---


def test_what_a_run_has_done_is_clean_and_what_was_planted_is_named(
    server: Server, check: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 60)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    assert bulkup.run(double, project=server.project, state_dir=tmp_path / "s").success
    clean = check(server, double)
    assert (clean.exit_code, clean.counts.handled, clean.counts.failed) == (Exit.DONE, 60, 0)
    wrong, without = (client.get(client.key("Thing", i)) for i in (7, 9))
    wrong["twice"] = 1
    del without["twice"]
    client.put_multi([wrong, without])
    report = check(server, double)
    assert report.exit_code is Exit.PENDING
    assert report.state is RunState.FINISHED
    assert report.counts.failed == 2
    (group,) = report.failure_groups
    assert group.error == "a second handling would change twice"
    assert set(group.keys) == named(7, 9)
    assert report.verification is not None
    assert not report.verification.by_is_done


def test_findings_are_grouped_by_the_properties_that_would_change(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 12, line1="x", line2="y")

    class Fix(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] % 4 == 0:
                raise ValueError(f"no {entity['i']}")
            if entity["i"] % 4 == 1:
                self.delete(entity)
                return
            entity[f"line{entity['i'] % 4 - 1}"] = None
            self.put(entity)

    report = check(embedded, Fix)
    assert sorted((group.step, group.error, group.count) for group in report.failure_groups) == [
        ("handle", "ValueError: no 4", 3),
        ("verify", "a second handling would change line1", 3),
        ("verify", "a second handling would change line2", 3),
        ("verify", "a second handling would delete it", 3),
    ]


def test_other_entities_that_are_already_as_they_would_be_written_are_no_finding(
    server: Server, check: Verify
) -> None:
    client = fill(server, "Thing", 6)

    class Copies(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            copy = Entity(self.client.key("Copy", entity["i"]))
            copy["i"] = entity["i"]
            self.put(copy)
            self.delete(self.client.key("Old", entity["i"]))
            if entity["i"] == 6:
                self.put(Entity(self.client.key("Event")))

    for i in (1, 2, 3, 4, 6):
        copy = Entity(client.key("Copy", i))
        copy["i"] = i if i != 3 else 0
        client.put(copy)
    client.put(Entity(client.key("Old", 4)))
    report = check(server, Copies)
    errors = {group.error: set(group.keys) for group in report.failure_groups}
    would = "a second handling would "
    assert errors == {
        f"{would}change i of another entity of the kind Copy": named(3),
        f"{would}delete another entity of the kind Old": named(4),
        f"{would}create an entity of the kind Copy": named(5),
        f"{would}create an entity of the kind Event": named(6),
    }


def test_rewriting_what_is_unchanged_is_no_finding(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 3, nan=float("nan"), tags=["a", "b"])

    class Again(bulkup.BulkPut):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

    assert check(embedded, Again).exit_code is Exit.DONE


def test_a_forgotten_return_is_not_clean(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 3)

    @bulkup.updater(kind="Thing")
    def forgets(entity: Entity) -> None:
        entity["twice"] = 2

    report = check(embedded, forgets)
    assert report.exit_code is Exit.PENDING
    (group,) = report.failure_groups
    assert "would change twice without writing that" in group.error


# --- is_done ---


def test_is_done_decides_where_there_is_one(server: Server, check: Verify) -> None:
    fill(server, "Thing", 10, n=lambda i: i)

    class AddOne(Updater):
        """Changes an entity each time."""

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            entity["n"] += 1
            self.put(entity)

        def is_done(self, entity: Entity) -> bool:
            if entity["i"] == 5:
                raise KeyError("when")
            return bool(entity["n"] != 7)

    report = check(server, AddOne)
    errors = {group.error: set(group.keys) for group in report.failure_groups}
    assert errors == {"is_done returned False": named(7), "KeyError: 'when'": named(5)}
    assert report.verification is not None
    assert report.verification.by_is_done
    assert any("is_done" in group.traceback for group in report.failure_groups)


def test_is_done_of_a_function_gets_the_parameters_that_it_names(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 3)

    def at_most(entity: Entity, *, limit: int) -> bool:
        assert bulkup.client().project == embedded.project
        return bool(entity["i"] <= limit)

    @bulkup.updater(kind="Thing", is_done=at_most)
    def anything(entity: Entity, *, limit: int = 2, other: str = "") -> Entity:
        raise AssertionError("verify asks is_done alone")

    assert keys_of(check(embedded, anything)) == named(3)


def none(entity: Entity) -> Any:
    return None


async def later(entity: Entity) -> bool:
    return False


def yields(entity: Entity) -> Iterator[bool]:
    yield False


@pytest.mark.parametrize(
    ("is_done", "says"), [(later, "is async"), (yields, "yields; return True or False")]
)
def test_an_is_done_whose_answer_would_always_be_true_is_refused(
    embedded: Server, check: Verify, is_done: Any, says: str
) -> None:
    fill(embedded, "Thing", 1)
    updater = bulkup.updater(kind="Thing", is_done=is_done)(lambda entity: entity)
    with pytest.raises(UsageError, match=says):
        check(embedded, updater)


def test_an_is_done_that_is_no_method_is_refused(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 1)

    class Flag(bulkup.BulkPut):
        is_done = False  # type: ignore[assignment]

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

    with pytest.raises(UsageError, match="is_done of Flag is False; make it a method"):
        check(embedded, Flag)
    with pytest.raises(UsageError, match="is_done= takes a function"):
        bulkup.updater(kind="Thing", is_done=True)  # type: ignore[arg-type]


def test_is_done_that_returns_nothing_or_writes_accepts_nothing(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 2)
    updater = bulkup.updater(kind="Thing", is_done=none)(lambda entity: entity)
    (group,) = check(embedded, updater).failure_groups
    assert (group.error, group.count) == ("is_done returned None; return True or False", 2)

    class Writes(bulkup.BulkPut):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def is_done(self, entity: Entity) -> bool:
            self.delete(entity)
            return True

    (group,) = check(embedded, Writes).failure_groups
    assert (group.error, group.count) == (
        "is_done puts or deletes entities; it may only look at the one it gets",
        2,
    )


# --- beside live writers ---


@contextmanager
def working(job: Callable[[threading.Event], None]) -> Iterator[None]:
    """A thread that works until the block ends; what it raises is raised here."""
    over, raised = threading.Event(), []

    def work() -> None:
        try:
            job(over)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if raised:
        raise raised[0]


def test_beside_live_writers_there_is_no_false_finding_and_none_of_20_is_missed(
    server: Server, check: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "RECHECK_S", 0.5)
    undone = range(1, 61)
    planted, flicker = range(1, 21), range(21, 61)
    client = fill(server, "Thing", 400, twice=lambda i: 0 if i in undone else 2 * i)
    live = server.client()
    seen: queue.Queue[int] = queue.Queue()
    born = [1_000, 1_001, 1_002] if server.name != "LF" else []
    restored: set[int] = set()

    class Double(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["twice"] != 2 * entity["i"]:
                seen.put(entity["i"])
            entity["twice"] = 2 * entity["i"]
            self.put(entity)

    def write_all_the_time(over: threading.Event) -> None:
        """Users edit everything, also the planted ones, which stay undone. What they have half
        done when it is read is done soon after. And some is created that is not done."""
        chance = random.Random(1)
        seen_first = seen.get(timeout=60)
        for i in born:
            entity = Entity(live.key("Thing", i))
            entity.update(i=i, twice=0)
            live.put(entity)
        waiting = [seen_first]
        while not over.is_set():
            with live.transaction():
                edited = live.get(live.key("Thing", chance.randint(1, 400)))
                edited["note"] = chance.random()
                live.put(edited)
            while not seen.empty():
                waiting.append(seen.get())
            for i in waiting:
                if i in flicker and i not in restored:
                    with live.transaction():
                        half = live.get(live.key("Thing", i))
                        half["twice"] = 2 * i
                        live.put(half)
                    restored.add(i)
            waiting.clear()

    found: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Found) and not event.young:
            found.append(event.failure.key)

    with working(write_all_the_time):
        report = check(server, Double, listener=listen, shards=3)
    assert restored == set(flicker)
    assert set(found) == named(*planted)
    assert len(found) == report.counts.failed == 20
    assert report.counts.add_up
    assert report.verification is not None
    assert report.verification.done_since == len(flicker)
    assert report.verification.tells_births == (server.name != "LF")
    assert report.verification.young <= len(born)
    assert client.get(client.key("Thing", 1))["twice"] == 0


@pytest.mark.parametrize("name", ["embedded", "fs"])
def test_what_is_created_meanwhile_is_listed_apart(
    request: pytest.FixtureRequest, name: str, check: Verify
) -> None:
    server: Server = request.getfixturevalue(name)
    fill(server, "Thing", 3, twice=lambda i: 2 * i if i > 1 else 0)
    live = server.client()
    made = []

    class Double(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            query.order = ["i"]
            return query

        def handle_entity(self, entity: Entity) -> None:
            entity["twice"] = 2 * entity["i"]
            self.put(entity)

    def create(event: Event) -> None:
        if not made and type(event).__name__ == "RunStarted":
            made.extend(range(100, 107))
            for i in made:
                entity = Entity(live.key("Thing", i))
                entity.update(i=i)
                live.put(entity)

    report = check(server, Double, listener=create)
    assert keys_of(report) == named(1)
    assert report.exit_code is Exit.PENDING
    verification = report.verification
    assert verification is not None
    assert verification.young == 7
    assert len(verification.young_keys) == 5
    assert set(verification.young_keys) <= named(*made)


def test_young_ones_alone_are_clean(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 1, twice=2)
    live = embedded.client()

    def create(event: Event) -> None:
        if type(event).__name__ == "RunStarted":
            entity = Entity(live.key("Thing", 9))
            entity.update(i=9)
            live.put(entity)

    report = check(embedded, double, listener=create)
    assert report.exit_code is Exit.DONE
    assert report.verification is not None
    assert report.verification.young_keys == ("Key('Thing', 9)",)


def test_what_leaves_the_query_while_it_is_read_again_is_no_finding(
    server: Server, check: Verify
) -> None:
    fill(server, "Thing", 4, old=True)
    live = server.client()
    handled: queue.Queue[int] = queue.Queue()

    @bulkup.updater(kind="Thing", filters=[("old", "=", True)])
    def renew(entity: Entity) -> Entity:
        handled.put(entity["i"])
        entity["old"] = False
        return entity

    def write(over: threading.Event) -> None:
        for _ in range(4):
            i = handled.get(timeout=60)
            entity = live.get(live.key("Thing", i))
            if i == 1:
                live.delete(entity.key)
            elif i in (2, 3):
                entity["old"] = False
                live.put(entity)
            else:
                entity["note"] = 1
                live.put(entity)

    with working(write):
        report = check(server, renew)
    assert keys_of(report) == named(4)
    assert (report.counts.handled, report.counts.vanished, report.counts.failed) == (4, 3, 1)
    assert report.verification is not None
    assert report.verification.filtered


def test_what_others_keep_changing_is_named_after_all(
    embedded: Server, check: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 1, n=0)
    live = embedded.client()
    handled: queue.Queue[int] = queue.Queue()
    looks = []

    @bulkup.updater(kind="Thing")
    def renew(entity: Entity) -> Entity:
        looks.append(entity["n"])
        answered = threading.Event()
        handled.put(answered)  # type: ignore[arg-type]
        assert answered.wait(60)
        entity["done"] = True
        return entity

    def write(over: threading.Event) -> None:
        while not over.is_set():
            try:
                answered: Any = handled.get(timeout=0.05)
            except queue.Empty:
                continue
            entity = live.get(live.key("Thing", 1))
            entity["n"] += 1
            live.put(entity)
            answered.set()

    with working(write):
        report = check(embedded, renew)
    assert keys_of(report) == named(1)
    assert looks == list(range(suspects.MAX_LOOKS))


@pytest.mark.parametrize(
    ("value", "unsteady"), [(time.time_ns, 3), (random.random, 3), (lambda: 5, 0)]
)
def test_results_that_differ_each_time_are_said(
    embedded: Server, check: Verify, value: Callable[[], Any], unsteady: int
) -> None:
    fill(embedded, "Thing", 3)

    @bulkup.updater(kind="Thing")
    def stamp(entity: Entity) -> Entity:
        entity["at"] = value()
        return entity

    report = check(embedded, stamp)
    assert report.counts.failed == 3
    assert report.verification is not None
    assert report.verification.unsteady == unsteady


# --- queries ---


def test_each_entity_is_read_once_however_the_query_is_split(server: Server, check: Verify) -> None:
    fill(server, "Thing", 1200, twice=lambda i: 2 * i if i % 100 else 0)
    report = check(server, double, shards=4)
    assert report.counts.handled == 1200
    assert keys_of(check(server, double, shards=4, batch_size=7)) <= named(*range(100, 1201, 100))
    assert report.counts.failed == 12


def test_a_keys_only_query_is_verified_by_what_is_still_there(
    server: Server, check: Verify
) -> None:
    fill(server, "Thing", 2)

    @bulkup.updater(kind="Thing", keys_only=True)
    def drop(entity: Entity) -> Any:
        return bulkup.delete(entity)

    report = check(server, drop)
    (group,) = report.failure_groups
    assert (group.error, group.count) == ("a second handling would delete it", 2)


def test_an_entity_that_the_query_returns_twice_is_named_once(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 3, tags=["a", "b", "c"])

    @bulkup.updater(kind="Thing", order="tags")
    def tagged(entity: Entity) -> Entity:
        entity["n"] = 1
        return entity

    report = check(embedded, tagged)
    assert (report.counts.handled, report.counts.failed) == (3, 3)


# --- nothing is written ---


def test_neither_datastore_nor_the_run_state_is_touched(
    server: Server, check: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 40)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    state = tmp_path / "s"
    stopped = bulkup.run(double, project=server.project, state_dir=state, limit=20)
    assert stopped.state is RunState.STOPPED

    class Sneaky(Updater):
        """Writes in every way that there is."""

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            way = entity["i"] % 5
            if way == 0:
                self.client.put(entity)
            elif way == 1:
                datastore.Client(project=self.client.project).delete(entity.key)
            elif way == 2:
                with self.client.transaction():
                    self.client.put(entity)
            elif way == 3:
                self.put(Entity(self.client.key("Made")))
            else:
                self.delete(entity)

    def folder() -> dict[str, tuple[bytes, int]]:
        return {
            str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(state.rglob("*"))
            if path.is_file()
        }

    before, stored = folder(), all_bytes(server, monkeypatch)
    assert any(b"Thing" in one for one in stored)
    report = check(server, Sneaky)
    assert (report.counts.handled, report.counts.failed) == (40, 40)
    assert folder() == before
    assert all_bytes(server, monkeypatch) == stored
    assert client.get(client.key("Thing", 1)) is not None


# --- a file to continue from ---


class Killed(BaseException):
    pass


def test_killed_at_any_place_it_continues_and_ends_with_the_same_findings(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 120, twice=lambda i: 2 * i if i % 10 else 0)
    expected = {f"Key('Thing', {i})" for i in range(10, 121, 10)}

    def killed_after(count: int) -> Any:
        left = [count]

        def listen(event: Event) -> None:
            if isinstance(event, Found):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

        return listen

    import json

    for count in (0, 1, 5, 11):
        out = tmp_path / f"left{count}.jsonl"
        options = {"out": out, "batch_size": 7, "shards": 2}
        with pytest.raises(Killed):
            check(embedded, double, listener=killed_after(count), **options)
        first = out.read_bytes()
        assert first.startswith(b'{"type": "verify"')
        out.write_bytes(first + b'{"type": "find')  # a line that a killed process left behind
        report = check(embedded, double, **options)
        assert (report.counts.handled, report.counts.failed) == (120, 12), count
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert sorted(line["key"] for line in lines) == sorted(expected)
        assert all(line["typed_key"]["path"][0][0] == "Thing" for line in lines)
        assert out.stat().st_mode & 0o777 == 0o600


def test_a_limit_stops_with_75_and_the_same_file_continues(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 50, twice=lambda i: 2 * i if i < 50 else 0)
    out = tmp_path / "left.jsonl"
    stopped = check(embedded, double, out=out, limit=20, batch_size=10)
    assert (stopped.exit_code, stopped.counts.handled) == (Exit.LIMIT, 20)
    report = check(embedded, double, out=out, limit=1000)
    assert (report.exit_code, report.counts.handled) == (Exit.PENDING, 50)
    assert keys_of(report) == named(50)
    # Complete: the same command begins again.
    again = check(embedded, double, out=out)
    assert again.counts.handled == 50
    assert out.read_text().count("finding") == 1


def test_what_was_found_before_a_limit_is_said_with_4(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 50)
    report = check(embedded, double, limit=3)
    assert (report.exit_code, report.counts.handled, report.counts.failed) == (Exit.PENDING, 3, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Key('Thing', 1)\n", "is not a file of `bulkup verify`, so it is left as it is"),
        (b"\n\nprecious", "is not a file of `bulkup verify`"),
        (b"\x00\xff", "is not a file of `bulkup verify`"),
        (b'{"type": "verify", "identity": 1}\n', "line 1 of .* is damaged"),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(
    embedded: Server, check: Verify, tmp_path: Path, content: bytes, says: str
) -> None:
    fill(embedded, "Thing", 1)
    out = tmp_path / "precious"
    out.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        check(embedded, double, out=out)
    assert out.read_bytes() == content


def unfinished(embedded: Server, check: Verify, out: Path) -> None:
    fill(embedded, "Thing", 20, twice=0)
    stopped = check(embedded, double, out=out, limit=10, batch_size=5)
    assert stopped.counts.handled == 10


def test_an_unfinished_file_of_other_work_is_refused(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    out = tmp_path / "left.jsonl"
    unfinished(embedded, check, out)
    before = out.read_bytes()

    @bulkup.updater(kind="Thing")
    def other(entity: Entity) -> Entity:
        return entity

    with pytest.raises(MismatchError, match="unfinished verification of another updater"):
        check(embedded, other, out=out)
    lines = out.read_text().splitlines()
    with pytest.raises(MismatchError, match="another target"):
        elsewhere = Server(embedded.name, embedded.host, embedded.project + "x")
        fill(elsewhere, "Thing", 1)
        check(elsewhere, double, out=out)
    assert out.read_bytes() == before
    lines[2] = "nonsense"
    out.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match="line 3 of .* is damaged"):
        check(embedded, double, out=out)


def test_two_processes_do_not_write_one_file(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 1)
    out = tmp_path / "left.jsonl"
    raised: list[BulkupError] = []

    def again(event: Event) -> None:
        if type(event).__name__ == "RunStarted":
            with pytest.raises(BulkupError, match="another process writes to") as error:
                check(embedded, double, out=out)
            raised.append(error.value)

    assert check(embedded, double, out=out, listener=again).counts.handled == 1
    assert raised[0].exit_code is Exit.HELD
