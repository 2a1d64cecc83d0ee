from __future__ import annotations

import pytest
from google.cloud.datastore import Entity
from google.cloud.datastore.helpers import GeoPoint

from bulkup.testing import handle, offline_client, query
from updaters.cities_geopoint import CitiesGeoPoint


def city(**properties: object) -> Entity:
    entity = Entity(offline_client().key("City", 2950159))
    entity.update(name="Berlin", **properties)
    return entity


def test_two_numbers_become_one_geopoint() -> None:
    writes = handle(CitiesGeoPoint, city(latitude=52.52437, longitude=13))
    assert writes.puts == (city(location=GeoPoint(52.52437, 13.0)),)


def test_a_second_run_changes_nothing() -> None:
    (done,) = handle(CitiesGeoPoint, city(latitude=52.5, longitude=13.4)).puts
    assert not handle(CitiesGeoPoint, done).puts


def test_coordinates_written_after_the_conversion_replace_the_location() -> None:
    old = GeoPoint(0.0, 0.0)
    writes = handle(CitiesGeoPoint, city(location=old, latitude=52.5, longitude=13.4))
    assert writes.puts == (city(location=GeoPoint(52.5, 13.4)),)


@pytest.mark.parametrize(
    "broken",
    [{}, {"latitude": 52.5}, {"longitude": 13.4}, {"latitude": None, "longitude": 13.4},
     {"latitude": "north", "longitude": 0}],
)  # fmt: skip
def test_incomplete_coordinates_are_a_failure(broken: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        handle(CitiesGeoPoint, city(**broken))


def test_the_query_selects_every_city() -> None:
    assert query(CitiesGeoPoint).kind == "City"
