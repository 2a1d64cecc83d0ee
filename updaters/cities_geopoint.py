"""Replace two properties with one: `latitude` and `longitude` become `location`, a GeoPoint.

bulkup run updaters/cities_geopoint.py
"""

from __future__ import annotations

from google.cloud.datastore import Entity, Query
from google.cloud.datastore.helpers import GeoPoint

from bulkup import Updater


class CitiesGeoPoint(Updater):
    """Replace latitude and longitude of every City with a location."""

    def get_query(self) -> Query:
        return self.client.query(kind="City")

    def handle_entity(self, entity: Entity) -> None:
        if "location" in entity and not {"latitude", "longitude"} & entity.keys():
            return  # already converted, for example by an earlier run
        latitude, longitude = float(entity.pop("latitude")), float(entity.pop("longitude"))
        entity["location"] = GeoPoint(latitude, longitude)
        self.put(entity)
