"""What a plan warns of."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from google.cloud.datastore import Client, Entity
from google.cloud.datastore.query import And, Or, PropertyFilter

from bulkup import Updater
from bulkup.core.model import TargetInfo
from bulkup.core.plan import Hazard, Plan
from bulkup.datastore.google_private import query_message
from bulkup.engine.planning.again import MOST, MOST_BYTES
from bulkup.engine.planning.hazards import FAR_S, distance_warnings, needed_index
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.planning import plan_on


@pytest.fixture(autouse=True)
def _here(embedded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)


class OfThings(Updater):
    def get_query(self) -> Any:
        return self.client.query(kind="Thing")


def hazards(plan: Plan) -> dict[Hazard, str]:
    found = {warning.hazard: warning.message for warning in plan.warnings}
    assert len(found) == len(plan.warnings)
    return found


def test_one_value_for_all_in_an_indexed_property(embedded: Server) -> None:
    fill(embedded, "Thing", 30)

    class Stamps(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            entity["state"] = "new"
            entity["note"] = "the same for all"
            entity["other"] = entity["i"] % 7
            entity.exclude_from_indexes = {"note"}
            self.put(entity)

    found = hazards(plan_on(embedded, Stamps))
    assert list(found) == [Hazard.ONE_VALUE]
    assert "state of Thing the same value" in found[Hazard.ONE_VALUE]


@pytest.mark.parametrize(
    ("value", "rises"),
    [
        (lambda i: i, True),
        (lambda i: i / 3, True),
        (lambda i: f"{i:05}", True),
        (lambda i: datetime.fromtimestamp(i, timezone.utc), True),
        (lambda i: -i, False),
        (lambda i: i % 10, False),
        (lambda i: str(i) if i % 2 else i, False),
    ],
)
def test_a_value_that_rises_from_entity_to_entity(
    embedded: Server, value: Any, rises: bool
) -> None:
    fill(embedded, "Thing", 30)

    class Numbers(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            entity["number"] = value(entity["i"])
            self.put(entity)

    found = hazards(plan_on(embedded, Numbers))
    assert (Hazard.RISING_VALUE in found) == rises


def test_entities_that_move_in_their_own_query(embedded: Server) -> None:
    fill(embedded, "Thing", 5)

    class Moves(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            query.order = ["i"]
            return query

        def handle_entity(self, entity: Entity) -> None:
            entity["i"] += 1000
            self.put(entity)

    found = hazards(plan_on(embedded, Moves))
    assert "orders or ranges on (i)" in found[Hazard.MOVES]


def test_entities_near_the_limit(embedded: Server) -> None:
    fill(embedded, "Thing", 3)

    class Grows(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            entity["blob"] = b"x" * (entity["i"] * 330_000)
            entity.exclude_from_indexes = {"blob"}
            self.put(entity)

    found = hazards(plan_on(embedded, Grows))
    assert found[Hazard.NEAR_LIMIT].startswith("1 entity is near the limit")
    assert "Key('Thing', 3)" in found[Hazard.NEAR_LIMIT]


def test_a_handler_that_changes_its_own_result_when_called_again(embedded: Server) -> None:
    fill(embedded, "Thing", 30, tags=lambda i: [])

    class Again(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] <= 10:
                entity["i2"] = entity.get("i2", 0) + entity["i"]
                entity["tags"] = [*entity["tags"], "x"]
            else:
                entity["i2"] = -entity["i"]
            self.put(entity)

    found = hazards(plan_on(embedded, Again))[Hazard.NOT_IDEMPOTENT]
    assert "of 30 results that were handled again, 10 changed again (i2, tags)" in found
    assert "(first Key('Thing'," in found


def test_creating_again_and_failing_again_are_not_idempotent_either(embedded: Server) -> None:
    fill(embedded, "Thing", 4)

    class Creates(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            if "done" in entity and entity["i"] == 1:
                raise ValueError("done before")
            self.put(Entity(self.client.key("Log")))
            entity["done"] = True
            self.put(entity)

    found = hazards(plan_on(embedded, Creates))[Hazard.NOT_IDEMPOTENT]
    assert "3 created entities again, 1 failed" in found
    assert "changes them again" in found


def test_a_second_run_that_would_fail_is_not_said_to_change_anything(embedded: Server) -> None:
    fill(embedded, "Thing", 4, old=1)

    class Renames(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            entity["new"] = entity.pop("old")
            self.put(entity)

    found = hazards(plan_on(embedded, Renames))[Hazard.NOT_IDEMPOTENT]
    assert "4 failed" in found
    assert found.endswith("a second run of this updater fails there")


@pytest.mark.parametrize("kept", [True, False])
def test_a_result_that_the_query_no_longer_finds_is_not_handled_again(
    embedded: Server, kept: bool
) -> None:
    fill(embedded, "Thing", 30, state="old")

    class Leaves(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            query.add_filter(filter=PropertyFilter("state", "=", "old"))
            return query

        def handle_entity(self, entity: Entity) -> None:
            entity["n"] = entity.get("n", -entity["i"]) + 1
            entity["state"] = "old" if kept else "new"
            self.put(entity)

    assert (Hazard.NOT_IDEMPOTENT in hazards(plan_on(embedded, Leaves))) == kept


def test_only_so_many_results_are_kept_and_only_so_large_ones(embedded: Server) -> None:
    fill(embedded, "Thing", MOST + 50)
    calls: list[int] = []

    class Blobs(OfThings):
        size = 10

        def handle_entity(self, entity: Entity) -> None:
            calls.append(entity["i"])
            entity["blob"] = b"x" * self.size
            entity.exclude_from_indexes = {"blob"}
            self.put(entity)

    plan_on(embedded, Blobs, sample=None)
    assert len(calls) == MOST + 50 + MOST
    assert len(set(calls[-MOST:])) == MOST
    calls.clear()
    plan_on(embedded, type("Large", (Blobs,), {"size": 1_000_000}), sample=None)
    assert len(calls) == MOST + 50 + MOST_BYTES // 1_000_000


def test_handling_again_does_not_change_what_is_counted(embedded: Server) -> None:
    fill(embedded, "Thing", 30)

    class Counts(OfThings):
        calls = 0

        def handle_entity(self, entity: Entity) -> None:
            self.calls += 1
            entity["n"] = self.calls
            self.put(entity)

    plan = plan_on(embedded, Counts)
    assert plan.predicted.written.count == 30
    assert [e.changes[0].after for e in plan.kinds[0].examples] == ["1", "2", "3"]
    assert Hazard.NOT_IDEMPOTENT in hazards(plan)


@pytest.mark.parametrize("filtered", [False, True])
def test_an_unfiltered_delete(embedded: Server, filtered: bool) -> None:
    fill(embedded, "Thing", 5)

    class Deletes(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            if filtered:
                query.add_filter(filter=PropertyFilter("i", "<", 100))
            return query

        def handle_entity(self, entity: Entity) -> None:
            self.delete(entity)

    found = hazards(plan_on(embedded, Deletes))
    assert (Hazard.UNFILTERED_DELETE in found) != filtered


def test_changes_that_are_not_written(embedded: Server) -> None:
    fill(embedded, "Thing", 5)

    class Forgets(OfThings):
        def handle_entity(self, entity: Entity) -> None:
            entity["n"] = 1

    found = hazards(plan_on(embedded, Forgets))
    assert (
        "5 entities were changed, and none of these changes was written" in found[Hazard.UNWRITTEN]
    )


def needed(filters: Any = None, order: tuple[str, ...] = (), ancestor: bool = False) -> Any:
    client = Client(project="p")
    query = client.query(kind="T", order=order)
    if filters is not None:
        query.add_filter(filter=filters)
    if ancestor:
        query.ancestor = client.key("P", 1)
    return list(needed_index(query_message(query)))


EQUAL_A, EQUAL_B = PropertyFilter("a", "=", 1), PropertyFilter("b", "=", 1)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, []),
        ({"filters": EQUAL_A}, []),
        ({"filters": And([EQUAL_A, EQUAL_B])}, []),
        ({"filters": EQUAL_A, "ancestor": True}, []),
        ({"order": ("a",)}, []),
        ({"order": ("-a",)}, []),
        ({"filters": PropertyFilter("a", ">", 1)}, []),
        ({"filters": PropertyFilter("a", ">", 1), "order": ("a",)}, []),
        ({"filters": PropertyFilter("a", ">", 1), "order": ("-a",)}, []),
        ({"order": ("__key__",)}, []),
        ({"order": ("-__key__",)}, [("__key__", True)]),
        ({"filters": EQUAL_A, "order": ("b",)}, [("a", False), ("b", False)]),
        ({"filters": EQUAL_A, "order": ("a",)}, []),
        ({"order": ("a", "-b")}, [("a", False), ("b", True)]),
        ({"order": ("a",), "ancestor": True}, [("a", False)]),
        (
            {"filters": And([EQUAL_B, PropertyFilter("a", "<", 1)])},
            [("b", False), ("a", False)],
        ),
        ({"filters": Or([EQUAL_A, EQUAL_B])}, []),
    ],
)
def test_which_composite_index_a_query_needs(
    query: dict[str, Any], index: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert needed(**query) == index


def test_the_index_is_named_on_an_emulator(embedded: Server) -> None:
    fill(embedded, "Thing", 3, state="a")

    class Needs(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing", order=["-i"])
            query.add_filter(filter=PropertyFilter("state", "=", "a"))
            return query

        def handle_entity(self, entity: Entity) -> None: ...

    found = hazards(plan_on(embedded, Needs))
    assert "composite index on Thing (state, i desc)" in found[Hazard.NEEDS_INDEX]


def test_a_region_far_away_is_told_by_the_measured_round_trip(embedded: Server) -> None:
    fill(embedded, "Thing", 1)

    class Nothing(OfThings):
        def handle_entity(self, entity: Entity) -> None: ...

    plan = plan_on(embedded, Nothing)
    assert plan.round_trip_s is not None
    assert plan.round_trip_s > 0
    real, emulator = TargetInfo("p"), TargetInfo("p", emulator="localhost:1")
    (warning,) = distance_warnings(0.123, real)
    assert "takes 123 ms from here" in warning.message
    assert not list(distance_warnings(FAR_S / 2, real))
    assert not list(distance_warnings(0.123, emulator))
