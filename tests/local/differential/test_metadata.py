"""Queries for kinds, namespaces and properties; compared with LF, because FS has none of them."""

from __future__ import annotations

import uuid

from tests.local.differential.build import Place, all_of, query, where
from tests.local.differential.compare import Judge


def _fill(judge: Judge, project: str) -> tuple[Place, Place, Place]:
    places = Place(project), Place(project, "x.Y-1_"), Place(project, "z")
    for number, place in enumerate(places):
        judge.store(
            place,
            [
                place.entity(("A", 1), {"p": number, "q": "s", "n": {"x": 1.5}}),
                place.entity(("A", 2), {"p": None, "tags": ["a", 1]}),
                place.entity(("A", 2, "B", 1), {"p": b"b", "r": place.key("A", 1)}),
                place.entity(("Z", 1), {}),
            ],
        )
    return places


def test_kinds_namespaces_and_properties(beside_lf: Judge) -> None:
    project = f"m-{uuid.uuid4().hex[:12]}"
    for place in _fill(beside_lf, project):
        kind = place.key("__kind__", "A")
        for asked in (
            query("__kind__"),
            query("__kind__", projection=("__key__",)),
            query("__kind__", limit=2),
            query("__kind__", offset=1),
            query("__kind__", filter=where("__key__", ">", kind)),
            query("__kind__", filter=where("__key__", ">=", place.key("__kind__", "B"))),
            query(
                "__kind__",
                filter=all_of(
                    where("__key__", ">=", kind),
                    where("__key__", "<", place.key("__kind__", "C")),
                ),
            ),
            query("__namespace__"),
            query("__namespace__", projection=("__key__",)),
            query("__property__"),
            query("__property__", projection=("__key__",)),
            query("__property__", filter=where("__key__", "under", kind)),
            query("__property__", limit=3),
            query("__Stat_Kind__"),
            query("__Stat_Total__"),
        ):
            beside_lf.same_scan(place, asked)
