"""A comparison finds what a model finds, whatever is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bulkup.core.difference import DiffReport, EntityDifference
from bulkup.datastore.queries import Filter
from bulkup.engine.compare.comparison import Scope
from bulkup.runs.diff import diff
from bulkup.runs.sides import SideOptions
from bulkup.runs.target import TargetOptions
from tests.cli.shell import entity, put
from tests.conftest import Server
from tests.examples import examples
from tests.local.differential.build import Place, upsert
from tests.local.differential.build import delete as deletion
from tests.local.differential.strategies import KINDS, relocate, worlds
from tests.local.differential.wire import REQUESTS, Wire

pytestmark = pytest.mark.sampled(5)

A, B = "a", "b"


def compared(
    server: Server, scope: Scope | None = None, sample: int | None = None, **other: str
) -> tuple[DiffReport, list[EntityDifference]]:
    """What differs between the namespaces a and b of a server."""
    found: list[EntityDifference] = []
    with mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=server.host):
        report = diff(
            SideOptions(TargetOptions(server.project, namespace=A)),
            SideOptions(TargetOptions(server.project, namespace=B)),
            scope or Scope(),
            sample=sample,
            on_difference=found.append,
        )
    return report, found


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = Wire(server.name, server.host)
    yield wire
    wire.close()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Two worlds that have some entities in common."""
    one, other = draw(worlds()), draw(worlds())
    same = [e for e in one if draw(st.booleans())]
    kept = {e.key.SerializeToString(): e for e in (*other, *same)}
    return one, list(kept.values())


def stored(wire: Wire, place: Place, world: list[Any]) -> dict[tuple[Any, ...], Any]:
    """Put exactly this world, and read it back, by path."""
    request = REQUESTS["RunQuery"](project_id=place.project, partition_id=place.partition())
    request.query.SetInParent()
    there = wire.call("RunQuery", request).body.batch.entity_results
    commit = REQUESTS["Commit"](project_id=place.project, mode=1)
    commit.single_use_transaction.read_write.SetInParent()
    commit.mutations.extend(deletion(result.entity.key) for result in there)
    commit.mutations.extend(upsert(relocate(place, one)) for one in world)
    assume(wire.call("Commit", commit).code == "OK")  # else this server cannot store one of them
    found = wire.call("RunQuery", request).body.batch.entity_results
    assert len(found) == len(world)
    return {_path(result.entity.key): relocate(Place("model"), result.entity) for result in found}


def _path(key: Any) -> tuple[Any, ...]:
    return tuple((e.kind, getattr(e, e.WhichOneof("id_type"))) for e in key.path)


def model(one: dict[Any, Any], other: dict[Any, Any]) -> dict[Any, tuple[str, set[str]]]:
    """How the sides differ, by path: the change, and the names of the properties."""
    found: dict[Any, tuple[str, set[str]]] = {}
    for path in one.keys() | other.keys():
        before, after = one.get(path), other.get(path)
        if before is None or after is None:
            names = set((before or after).properties)
            found[path] = "only_a" if after is None else "only_b", names
            continue
        names = {
            name
            for name in {*before.properties, *after.properties}
            if (name in before.properties) != (name in after.properties)
            or before.properties[name].SerializeToString(deterministic=True)
            != after.properties[name].SerializeToString(deterministic=True)
        }
        if names:
            found[path] = "changed", names
    return found


def as_model(found: list[EntityDifference]) -> dict[Any, tuple[str, set[str]]]:
    from bulkup.core.typed_key import typed_key

    by_path = {}
    for one in found:
        key = typed_key(one.key)
        assert key is not None
        path = tuple(map(tuple, key["path"]))
        by_path[path] = str(one.change), {change.name for change in one.changes}
    assert len(by_path) == len(found)
    return by_path


@settings(examples(50), suppress_health_check=list(HealthCheck))  # each example is stored anew
@given(data=st.data())
def test_generated_pairs_of_stores_differ_as_a_model_says(
    server: Server, wire: Wire, data: st.DataObject
) -> None:
    one, other = data.draw(pairs())
    places = Place(server.project, A), Place(server.project, B)
    sides = stored(wire, places[0], one), stored(wire, places[1], other)
    expected = model(*sides)
    report, found = compared(server)
    assert as_model(found) == expected
    totals = report.totals
    assert totals.different == len(expected)
    assert totals.same == len(sides[0].keys() & sides[1].keys()) - totals.changed
    # Kind by kind, each in ranges, is the same.
    kinds = {path[-1][0] for side in sides for path in side}
    report, found = compared(server, Scope(tuple(kinds)))
    assert as_model(found) == expected
    assert {one.kind for one in report.kinds} == kinds
    assert kinds <= {*KINDS, "AA"}


def many(server: Server) -> None:
    """1,100 entities on each side: 100 on each alone, and every 40th of the others changed."""
    for namespace, first in ((A, 1), (B, 101)):
        client = server.client(namespace=namespace)
        put(
            client,
            (
                entity(client, "Item", i, n=i, side=namespace if i % 40 == 0 else "")
                for i in range(first, first + 1100)
            ),
        )


@pytest.mark.client_side
def test_a_kind_in_many_ranges_and_pages_is_compared_whole(server: Server) -> None:
    many(server)
    changed = [i for i in range(101, 1101) if i % 40 == 0]
    for scope in (Scope(), Scope(("Item",))):
        report, found = compared(server, scope)
        (kind,) = report.kinds
        assert (kind.changed, kind.only_a, kind.only_b) == (len(changed), 100, 100)
        assert kind.same == 1000 - len(changed)
        assert len(found) == len(changed) + 200
        (named,) = kind.properties
        assert (named.name, named.before, named.count) == ("side", "string", len(changed))


def test_the_sample_is_the_first_of_each_kind_of_change_whatever_arrives_first(
    embedded: Server,
) -> None:
    many(embedded)
    _, found = compared(embedded, Scope(("Item",)), sample=2)
    assert [one.key for one in found] == [
        f"Key('Item', {i}, namespace='a')" for i in (1, 2, 120, 160, 1101, 1102)
    ]


@pytest.mark.client_side
@pytest.mark.parametrize("count", [30, 700])
def test_a_condition_holds_if_either_side_meets_it(server: Server, count: int) -> None:
    """An entity that no longer meets it is compared, too, and not taken for a deleted one."""
    for namespace, state in ((A, "open"), (B, "closed")):
        client = server.client(namespace=namespace)
        put(
            client,
            (
                entity(client, "Item", i, state=state if i % 3 == 0 else "new", n=i)
                for i in range(1, count + 1)
                if (i + len(state)) % 10
            ),
        )
    for value in ("open", "closed"):
        scope = Scope(("Item",), (Filter("state", "EQUAL", value),))
        report, found = compared(server, scope)
        there = {
            side: {i for i in range(1, count + 1) if (i + len(state)) % 10}
            for side, state in ((A, "open"), (B, "closed"))
        }
        meeting = {i for i in there[A if value == "open" else B] if i % 3 == 0}
        (kind,) = report.kinds
        assert kind.changed == len(meeting & there[A] & there[B])
        assert kind.only_a == len(meeting - there[B])
        assert kind.only_b == len(meeting - there[A])
        assert kind.same == 0
        assert len(found) == len(meeting)
