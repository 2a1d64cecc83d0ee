"""Write a second kind: each Customer's embedded address moves into an entity of its own.

Both are written in one commit, so no address is ever lost or duplicated.

    bulkup run updaters/split_address.py
"""

from __future__ import annotations

from google.cloud.datastore import Entity, Query

from bulkup import Updater


class SplitAddress(Updater):
    """Move Customer.address into an Address entity that the customer refers to."""

    def get_query(self) -> Query:
        return self.client.query(kind="Customer")

    def handle_entity(self, entity: Entity) -> None:
        embedded = entity.pop("address", None)
        if embedded is None:
            return
        assert entity.key is not None  # the type of new entities allows for it
        # The key derives from the customer's, so handling a customer twice makes one address.
        address = Entity(self.client.key("Address", entity.key.id_or_name))
        address.update(embedded)
        entity["address_key"] = address.key
        self.put(address, entity)
