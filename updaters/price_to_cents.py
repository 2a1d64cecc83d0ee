"""Rename a property and change its type: `price` "12.50" becomes `price_cents` 1250.

bulkup run updaters/price_to_cents.py --dry-run
"""

from __future__ import annotations

from decimal import Decimal

from google.cloud.datastore import Entity, Query

from bulkup import Updater


class PriceToCents(Updater):
    """Replace Product.price, a string, with price_cents, an integer."""

    max_failures = -1  # report prices that are not numbers, and leave them unchanged

    def get_query(self) -> Query:
        return self.client.query(kind="Product")

    def handle_entity(self, entity: Entity) -> None:
        if "price" not in entity:
            return
        cents = Decimal(entity.pop("price")) * 100
        if cents != int(cents):
            raise ValueError(f"{cents} is not a whole number of cents")
        entity["price_cents"] = int(cents)
        self.put(entity)
