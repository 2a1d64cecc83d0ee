"""What a plan predicts is what a run then does."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity
from google.cloud.datastore.query import PropertyFilter

from bulkup import Updater
from bulkup.core.errors import Exit, StopAskedError
from bulkup.core.plan import Drawn, Estimate, Hazard, Plan, Total
from bulkup.runs.plan import forecast
from tests.cli.shell import contents
from tests.conftest import Server
from tests.engine.conftest import Run, fill
from tests.engine.conftest import run as run
from tests.runs.planning import plan_on

pytestmark = pytest.mark.sampled(9)

ENTITIES = 240
OUTCOMES = (
    "handled", "written", "deleted", "unchanged", "left_alone", "vanished", "failed",
    "changed_not_written", "other_written", "other_deleted",
)  # fmt: skip
ACTIONS = ("write", "write", "write", "delete", "put unchanged", "leave", "fail", "forget")


def actions(seed: int, count: int = ENTITIES) -> list[tuple[str, ...]]:
    chosen = random.Random(seed)
    return [
        (
            chosen.choice(ACTIONS) if i else "write",
            *(name for name in ("create", "copy", "delete other") if chosen.random() < 0.3),
        )
        for i in range(count)
    ]


class Mixed(Updater):
    """Does what `actions` says with each Thing."""

    max_failures = -1
    actions: list[tuple[str, ...]]

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        i = entity["i"]
        action, *besides = self.actions[i - 1]
        if "create" in besides:
            self.put(Entity(self.client.key("New")))
        if "copy" in besides:
            self.put(Entity(self.client.key("Copy", i)))
        if "delete other" in besides:
            self.delete(self.client.key("Third", i))
        if action in ("write", "forget"):
            entity["n"] = str(i)
        if action in ("write", "put unchanged"):
            self.put(entity)
        if action == "delete":
            self.delete(entity)
        if action == "fail":
            raise ValueError("no")


def mixed(seed: int, count: int = ENTITIES) -> type[Mixed]:
    return type("Mixed", (Mixed,), {"actions": actions(seed, count)})


def counts_of(plan: Plan) -> dict[str, int]:
    named = dict(plan.predicted.named())
    assert all(estimate.is_exact for estimate in named.values())
    return {name: named[name].count for name in OUTCOMES}


@pytest.fixture(autouse=True)
def _here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "server" if "server" in request.fixturenames else "embedded"
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", request.getfixturevalue(name).host)


def test_a_full_plan_counts_what_the_run_then_counts(server: Server, run: Run) -> None:
    client = fill(server, "Thing", ENTITIES)
    fill(server, "Copy", ENTITIES // 2)  # these copies are overwritten, the others created
    updater = mixed(seed=1)
    before = contents(server)
    plan = plan_on(server, updater, sample=None)
    assert contents(server) == before
    assert not plan.is_sample
    counts = run(server, updater).counts.named()
    assert counts_of(plan) == {name: counts[name] for name in OUTCOMES}
    assert model(updater.actions) == {**counts_of(plan), "created": counts["other_written"]}
    copies = len(list(client.query(kind="Copy").fetch()))
    new = len(list(client.query(kind="New").fetch()))
    assert plan.predicted.created == Estimate.exact(new + copies - ENTITIES // 2)


def model(actions: list[tuple[str, ...]]) -> dict[str, int]:
    """What a run of Mixed counts; what a handler wrote before it failed counts for nothing."""
    firsts = Counter(action for action, *_ in actions)
    besides = Counter(name for action, *names in actions if action != "fail" for name in names)
    return {
        "handled": len(actions),
        "written": firsts["write"],
        "deleted": firsts["delete"],
        "unchanged": firsts["put unchanged"],
        "left_alone": firsts["leave"] + firsts["forget"],
        "vanished": 0,
        "failed": firsts["fail"],
        "changed_not_written": firsts["forget"],
        "other_written": besides["create"] + besides["copy"],
        "other_deleted": besides["delete other"],
        "created": besides["create"] + besides["copy"],
    }


def test_drawn_by_scatter_the_counts_lie_in_the_intervals_for_19_of_20_seeds(
    embedded: Server,
) -> None:
    """Scatter always draws the same, so here the seed decides what is done with each entity."""
    count = 2000
    fill(embedded, "Thing", count)
    held = 0
    for seed in range(20):
        plan = plan_on(embedded, mixed(seed, count), sample=60)
        assert plan.drawn is Drawn.SCATTER
        counts = model(actions(seed, count))
        held += all(one.low <= counts[name] <= one.high for name, one in plan.predicted.named())
    assert held >= 19


@pytest.mark.one_in(3)
def test_the_counts_of_a_run_lie_in_the_intervals_for_19_of_20_seeds(
    server: Server, run: Run
) -> None:
    count = 600
    fill(server, "Thing", count)
    updater = mixed(seed=1, count=count)
    plans = [plan_on(server, updater, sample=120, seed=seed) for seed in range(20)]
    assert all(plan.is_sample and plan.handled == 120 for plan in plans)
    assert plans[0].predicted != plans[1].predicted or plans[0].drawn is Drawn.SCATTER
    counts = run(server, updater).counts.named()
    counts["created"] = counts["other_written"]  # no copy was there
    held = 0
    for plan in plans:
        named = dict(plan.predicted.named())
        assert named["handled"] == Estimate.exact(count)
        assert not named["written"].is_exact
        held += all(one.low <= counts[name] <= one.high for name, one in named.items())
    assert held >= 19


def test_a_small_kind_is_handled_as_a_whole(server: Server) -> None:
    fill(server, "Thing", 20)
    plan = plan_on(server, mixed(3), sample=20)
    assert (plan.drawn, plan.handled) == (Drawn.ALL, 20)
    assert counts_of(plan)["handled"] == 20


@pytest.mark.parametrize("name", ["filtered", "ordered"])
def test_a_query_with_conditions_or_orders_is_sampled_from_its_own_matches(
    server: Server, name: str
) -> None:
    fill(server, "Thing", 400, half=lambda i: i % 2, back=lambda i: -i)
    handled: list[int] = []

    class Some(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            if name == "filtered":
                query.add_filter(filter=PropertyFilter("half", "=", 1))
            else:
                query.order = ["back"]
            return query

        def handle_entity(self, entity: Entity) -> None:
            handled.append(entity["i"])

    plan = plan_on(server, Some, sample=50)
    assert (plan.drawn, plan.handled) == (Drawn.KEYS, 50)
    matching = 200 if name == "filtered" else 400
    assert plan.predicted.handled == Estimate.exact(matching)
    assert plan.total is Total.READ
    assert len(set(handled)) == 50
    if name == "filtered":
        assert all(i % 2 for i in handled)
        assert handled == sorted(handled)
    else:
        assert handled == sorted(handled, reverse=True)  # as a run would come to them


def test_the_embedded_datastore_draws_by_scatter_where_it_has_enough(embedded: Server) -> None:
    fill(embedded, "Thing", 2000)
    plan = plan_on(embedded, mixed(4, 2000), sample=50)
    assert (plan.drawn, plan.total, plan.handled) == (Drawn.SCATTER, Total.COUNTED, 50)
    assert plan.predicted.handled == Estimate.exact(2000)


def test_the_same_data_gives_the_same_plan(embedded: Server) -> None:
    fill(embedded, "Thing", 300)
    one, other = (plan_on(embedded, mixed(5, 300), sample=60) for _ in range(2))
    assert (one.predicted, one.kinds) == (other.predicted, other.kinds)


def test_each_kind_of_change_has_its_types_its_number_and_examples(embedded: Server) -> None:
    client = fill(embedded, "Person", 30, age=lambda i: str(i))
    odd = Entity(client.key("Person", 31), exclude_from_indexes=("age",))
    odd.update(i=31, age="31", extra=None)
    client.put(odd)

    class Ages(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Person")

        def handle_entity(self, entity: Entity) -> None:
            entity["age"] = int(entity["age"])
            entity.exclude_from_indexes = set()
            entity.pop("extra", None)
            entity["seen"] = True
            self.put(entity)

    many, one = plan_on(embedded, Ages, sample=None).kinds
    assert (many.action, many.kind, many.seen) == ("update", "Person", 30)
    assert [(p.name, p.before, p.after) for p in many.properties] == [
        ("age", "string", "integer"),
        ("seen", None, "boolean"),
    ]
    assert len(many.examples) == 3
    assert [c.after for c in many.examples[0].changes] == ["1", "True"]
    assert [(p.name, p.before, p.after) for p in one.properties] == [
        ("age", "string, not indexed", "integer"),
        ("extra", "null", None),
        ("seen", None, "boolean"),
    ]


@pytest.mark.client_side
def test_an_entity_that_many_handlers_create_is_created_once(server: Server, run: Run) -> None:
    fill(server, "Thing", 30)

    class Counts(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            key = self.client.key("Count", entity["i"] % 2 + 1)
            count = self.client.get(key) or Entity(key)
            count["n"] = count.get("n", 0) + 1
            self.put(count)

    plan = plan_on(server, Counts, sample=None)
    assert plan.predicted.other_written == Estimate.exact(30)
    assert plan.predicted.created == Estimate.exact(2)
    assert {kind.action: kind.seen for kind in plan.kinds} == {"create": 2, "overwrite": 28}
    counts = run(server, Counts).counts.named()
    assert counts_of(plan) == {name: counts[name] for name in OUTCOMES}
    found = server.client().query(kind="Count").fetch()
    assert sorted(entity["n"] for entity in found) == [15, 15]


@pytest.mark.parametrize("sample", [None, 20])
def test_a_query_for_keys_alone_reads_no_entities(embedded: Server, sample: int | None) -> None:
    fill(embedded, "Thing", 60)

    class Deletes(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            query.keys_only()
            return query

        def handle_entity(self, entity: Entity) -> None:
            assert dict(entity) == {}
            self.delete(entity)

    plan = plan_on(embedded, Deletes, sample=sample)
    assert plan.predicted.deleted.count == 60
    assert plan.bill is not None
    counts = {line.operation: line.count.count for line in plan.bill.lines}
    assert counts == {"reads": 0, "writes": 1, "deletes": 61, "small": 60}


@pytest.mark.parametrize("sample", [None, 20])
def test_a_query_without_a_kind_leaves_out_what_bulkup_keeps(
    embedded: Server, run: Run, sample: int | None
) -> None:
    fill(embedded, "Thing", 40)
    fill(embedded, "Other", 10)
    run(embedded, mixed(1))  # leaves its run record
    left = len(contents(embedded)) - 1

    class All(Updater):
        def get_query(self) -> Any:
            return self.client.query()

        def handle_entity(self, entity: Entity) -> None: ...

    plan = plan_on(embedded, All, sample=sample)
    assert plan.predicted.handled == Estimate.exact(left)
    assert plan.handled == (sample or left)


def test_failures_are_grouped_and_a_run_that_would_stop_is_announced(embedded: Server) -> None:
    fill(embedded, "Thing", 40)

    actions = [("fail",) if i % 4 == 1 else ("write",) for i in range(40)]
    fails = type("Fails", (Mixed,), {"max_failures": 3, "actions": actions})
    plan = plan_on(embedded, fails, sample=None)
    (group,) = plan.failure_groups
    assert (group.count, group.error) == (10, "ValueError: no")
    (warning,) = [w for w in plan.warnings if w.hazard is Hazard.FAILURES]
    assert "stops at failure 4" in warning.message


def test_an_empty_query_is_not_an_error(embedded: Server) -> None:
    plan = plan_on(embedded, mixed(6), sample=10)
    assert plan.handled == 0
    assert [w.hazard for w in plan.warnings] == [Hazard.EMPTY_QUERY]
    assert plan.forecast is None


def test_the_bill_counts_reads_of_handlers_and_bulkups_own_markers(embedded: Server) -> None:
    fill(embedded, "Thing", 600)

    class Reads(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            self.client.get(self.client.key("Other", entity["i"]))
            entity["n"] = 1
            self.put(entity)

    bill = plan_on(embedded, Reads, sample=None).bill
    assert bill is not None
    assert {line.operation: line.count.count for line in bill.lines} == {
        "reads": 1200,
        "writes": 602,
        "deletes": 2,
        "small": 0,
    }
    cost, low, high = bill.total
    assert cost == low == high == pytest.approx((1200 * 0.06 + 602 * 0.18 + 2 * 0.02) / 100_000)


def test_a_run_takes_as_long_as_the_ramp_or_the_handler() -> None:
    fast = forecast(1_000_000, 9000.0, ramps=True)
    assert fast is not None
    assert (fast.limited_by, round(fast.seconds)) == ("ramp-up", 1070)
    assert fast.ramp_s == fast.seconds
    slow = forecast(1_000_000, 50.0, ramps=True)
    assert slow is not None
    assert (slow.limited_by, slow.seconds) == ("speed", 20_000.0)
    emulator = forecast(1_000_000, 10_000.0, ramps=False)
    assert emulator is not None
    assert (emulator.limited_by, emulator.seconds) == ("speed", 100.0)
    assert emulator.ramp_s > 1000


def test_a_plan_that_is_interrupted_says_so_and_leaves_no_file(
    embedded: Server, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 2000)

    class Interrupted(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] == 1000:
                signal.raise_signal(signal.SIGINT)
            self.delete(entity)

    before = contents(embedded)
    with pytest.raises(StopAskedError) as stopped:
        plan_on(embedded, Interrupted, sample=None, out=tmp_path / "plan.jsonl")
    assert stopped.value.exit_code is Exit.SIGINT
    assert "SIGINT before the plan was complete; nothing was written" in stopped.value.message
    assert list(tmp_path.iterdir()) == []
    assert contents(embedded) == before
