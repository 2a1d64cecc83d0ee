"""Projects, databases and namespaces are separate; reads at a time see that time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local.differential.answers import say_entity
from tests.local.differential.build import Place, delete, query, upsert, where
from tests.local.differential.compare import Answer, Judge
from tests.local.differential.wire import REQUESTS, PartitionId, Wire


def _say_rows(response: Any) -> Answer:
    return tuple(say_entity(r.entity) for r in response.batch.entity_results)


def _query(judge: Judge, place: Place, asked: Any, **fields: Any) -> bool:
    request = REQUESTS["RunQuery"](
        project_id=place.project, partition_id=place.partition(), query=asked, **fields
    )
    return judge.same(place, "RunQuery", request, _say_rows)


def test_namespaces_do_not_mix(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    project = fresh().project
    places = [Place(project, name) for name in ("x", "y.Z_0-1", "z" * 100)]
    for number, place in enumerate(places):
        beside_fs.store(
            place,
            [place.entity(("K", i), {"p": number, "k": places[0].key("K", 1)}) for i in (1, 2)],
        )
    for place in (*places, Place(project, "empty")):
        _query(beside_fs, place, query("K"))
        _query(beside_fs, place, query())
        _query(beside_fs, place, query("K", filter=where("p", ">=", 1)))
        _query(beside_fs, place, query("K", filter=where("k", "=", places[0].key("K", 1))))
        _query(beside_fs, place, query("K", filter=where("k", "=", place.key("K", 1))))
    for wire in beside_fs.both():
        gone = REQUESTS["Commit"](project_id=project, mode=2)
        gone.mutations.add().delete.CopyFrom(places[0].key("K", 1))
        assert wire.call("Commit", gone).code == "OK"
    for place in places:
        _query(beside_fs, place, query("K"))


def test_names_of_projects_databases_and_namespaces(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    project = fresh().project
    for name in ("é", "a b", "__x__", "z" * 101, "_", "-", "a/b"):
        place = Place(project, name)
        request = REQUESTS["Commit"](project_id=project, mode=2)
        request.mutations.add().upsert.CopyFrom(place.entity(("K", 1), {}))
        beside_fs.same(place, "Commit", request, lambda _: ())
        _query(beside_fs, place, query("K"))


def test_databases_do_not_mix(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    names = ("", "second", "third-1")
    for name in names:
        request = REQUESTS["Commit"](project_id=place.project, database_id=name, mode=2)
        entity = request.mutations.add().upsert
        entity.CopyFrom(place.entity(("K", 1), {"p": name}))
        entity.key.partition_id.database_id = name
        beside_fs.same(place, "Commit", request, lambda _: ())
    for name in (*names, "(default)", "fourth"):
        request = REQUESTS["RunQuery"](
            project_id=place.project, database_id=name, query=query("K"),
            partition_id=PartitionId(
                project_id=place.project, database_id=name, namespace_id=place.namespace
            ),
        )  # fmt: skip
        beside_fs.same(place, "RunQuery", request, _say_rows)
    other = REQUESTS["RunQuery"](
        project_id=place.project, database_id="second", query=query("K"),
        partition_id=PartitionId(project_id=place.project, namespace_id=place.namespace),
    )  # fmt: skip
    beside_fs.same(place, "RunQuery", other, _say_rows)


def test_reads_at_a_time(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    keys = [place.key("K", i) for i in (1, 2, 3)]
    writes = (
        [upsert(place.entity(("K", 1), {"p": 1})), upsert(place.entity(("K", 2), {"p": [1, 2]}))],
        [upsert(place.entity(("K", 1), {"p": 5})), upsert(place.entity(("K", 3), {"p": 0}))],
        [delete(keys[1])],
        [upsert(place.entity(("K", 2), {"p": 3})), delete(keys[0])],
    )
    times: dict[str, list[Any]] = {wire.name: [] for wire in beside_fs.both()}
    for mutations in writes:
        for wire in beside_fs.both():
            request = REQUESTS["Commit"](project_id=place.project, mode=1, mutations=mutations)
            request.single_use_transaction.read_write.SetInParent()
            reply = wire.call("Commit", request)
            assert reply.code == "OK", reply
            times[wire.name].append(reply.body.commit_time)
    asked = (
        query("K"),
        query("K", order=("p",)),
        query("K", filter=where("p", "=", 1)),
        query("K", filter=where("p", ">", 0), order=("-p",)),
        query("K", filter=where("__key__", ">", keys[0])),
        query("K", projection=("__key__",)),
        query("K", projection=("p",)),
        query(),
    )
    for moment in range(len(writes)):
        for one in asked:
            told = [_at(wire, place, one, times[wire.name][moment]) for wire in beside_fs.both()]
            assert told[0] == told[1], f"at {moment}: {one}"


def _once(response: Any) -> list[str]:
    """Without order and repetitions, which other tests cover."""
    return sorted(set(_say_rows(response)))


def _at(wire: Wire, place: Place, asked: Any, time: Any) -> list[Any]:
    """A query, a lookup and a transaction at a time."""
    options = {"read_time": time}
    told: list[Any] = []
    found = wire.call(
        "RunQuery",
        REQUESTS["RunQuery"](
            project_id=place.project, partition_id=place.partition(), query=asked,
            read_options=options,
        ),
    )  # fmt: skip
    told.append((found.code, _once(found.body) if found.body else found.message))
    found = wire.call(
        "Lookup",
        REQUESTS["Lookup"](
            project_id=place.project, keys=[place.key("K", 1), place.key("K", 2)],
            read_options=options,
        ),
    )  # fmt: skip
    told.append([say_entity(r.entity) for r in found.body.found] if found.body else found.code)
    begun = wire.call(
        "BeginTransaction",
        REQUESTS["BeginTransaction"](
            project_id=place.project, transaction_options={"read_only": {"read_time": time}}
        ),
    )
    assert begun.code == "OK", begun
    inside = {"transaction": begun.body.transaction}
    found = wire.call(
        "RunQuery",
        REQUESTS["RunQuery"](
            project_id=place.project, partition_id=place.partition(), query=asked,
            read_options=inside,
        ),
    )  # fmt: skip
    told.append((found.code, _once(found.body) if found.body else found.message))
    return told


def test_invalid_read_times(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", 1), {"p": 1})])
    for seconds, nanos in ((1, 0), (4_000_000_000, 0), (0, 0)):
        _query(
            beside_fs, place, query("K"),
            read_options={"read_time": {"seconds": seconds, "nanos": nanos}},
        )  # fmt: skip


def test_property_masks_of_a_query(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(
        place,
        [
            place.entity(("K", i), {"p": i, "q": [i, "a"], "n": {"x": i, "y": {"z": 1}}})
            for i in (1, 2)
        ],
    )
    for mask in (
        ["p"], ["q"], ["n"], ["n.x"], ["n.y.z"], ["n", "n.x"], ["n.w"], ["w"], [], ["__key__"],
        ["p", "p"], [""], ["p."], [".p"], ["`p`"], ["`n`.x"], ["`n.x`"],
    ):  # fmt: skip
        _query(beside_fs, place, query("K"), property_mask={"paths": mask})
        _query(beside_fs, place, query("K", order=("-p",)), property_mask={"paths": mask})
    for projected in ("__key__", "p"):
        _query(
            beside_fs, place, query("K", projection=(projected,)), property_mask={"paths": ["p"]}
        )


def test_features_that_few_servers_support(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    """Eventual reads, GQL, vectors, samples. Query explanations, which the emulators ignore, are in
    `test_explain.py`."""
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i}) for i in range(1, 30)])
    _query(beside_fs, place, query("K"), read_options={"read_consistency": 2})
    _query(beside_fs, place, query("K"), read_options={"read_consistency": 1})
    _query(beside_fs, place, query("K", order=("__scatter__",)))
    gql = REQUESTS["RunQuery"](project_id=place.project, partition_id=place.partition())
    gql.gql_query.query_string = "SELECT * FROM K"
    beside_fs.same(place, "RunQuery", gql, _say_rows)
    near = query("K")
    near.find_nearest.vector_property.name = "p"
    near.find_nearest.query_vector.array_value.values.add().double_value = 1.0
    near.find_nearest.distance_measure = 1
    near.find_nearest.limit.value = 3
    _query(beside_fs, place, near)
