"""Ids that the server allocates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local.differential.build import Place, query
from tests.local.differential.compare import Judge
from tests.local.differential.wire import REQUESTS


def _shapes(response: Any) -> tuple[str, ...]:
    """Keys with their ids left out, and whether all ids differ."""
    keys = list(response.keys)
    ids = [k.path[-1].id for k in keys]
    return (
        *("/".join(f"{e.kind}:{e.name or (e.id and 'id')}" for e in k.path) for k in keys),
        f"all different: {len(set(ids)) == len(ids)}, all positive: {all(i > 0 for i in ids)}",
    )


def test_allocated_ids(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    for keys in (
        [],
        [place.key("K", None)],
        [place.key("K", None)] * 100,
        [place.key("P", 1, "K", None), place.key("P", "p", "K", None)],
        [place.key("K", 1)],
        [place.key("K", "n")],
        [place.key("K", None, "L", None)],
        [place.key()],
        [place.key("__K__", None)],
        [place.key("", None)],
        [Place("another-project").key("K", None)],
    ):
        request = REQUESTS["AllocateIds"](project_id=place.project, keys=keys)
        beside_fs.same(place, "AllocateIds", request, _shapes)


def test_reserved_ids(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    for keys in (
        [],
        [place.key("K", 5)],
        [place.key("K", 5), place.key("K", 5)],
        [place.key("P", 1, "K", 7)],
        [place.key("K", "n")],
        [place.key("K", None)],
        [place.key()],
        [place.key("K", 2**63 - 1)],
    ):
        request = REQUESTS["ReserveIds"](project_id=place.project, keys=keys)
        beside_fs.same(place, "ReserveIds", request, lambda _: ())


def test_a_put_without_an_id_gets_one(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    for operation in ("insert", "upsert"):
        request = REQUESTS["Commit"](project_id=place.project, mode=2)
        for path in (("K", None), ("K", None), ("P", 1, "K", None), ("K", 3)):
            getattr(request.mutations.add(), operation).CopyFrom(place.entity(path, {"p": 1}))
        beside_fs.same(
            place, "Commit", request,
            lambda response: tuple(
                f"{[(e.kind, e.id > 0) for e in r.key.path]}" for r in response.mutation_results
            ),
        )  # fmt: skip
        for wire in beside_fs.both():
            wire.call(
                "Commit", REQUESTS["Commit"](
                    project_id=place.project, mode=2, mutations=[{"delete": place.key("K", 3)}]
                ),
            )  # fmt: skip
    count = REQUESTS["RunQuery"](
        project_id=place.project, partition_id=place.partition(), query=query("K")
    )
    beside_fs.same(place, "RunQuery", count, lambda r: (str(len(r.batch.entity_results)),))
