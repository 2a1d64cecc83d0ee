from __future__ import annotations

from decimal import InvalidOperation

import pytest
from google.cloud.datastore import Entity

from bulkup.testing import handle, offline_client, query
from updaters.price_to_cents import PriceToCents


def product(**properties: object) -> Entity:
    entity = Entity(offline_client().key("Product", "tea"))
    entity.update(properties)
    return entity


@pytest.mark.parametrize(("price", "cents"), [("12.50", 1250), ("0.1", 10), ("3", 300)])
def test_a_price_becomes_cents(price: str, cents: int) -> None:
    writes = handle(PriceToCents, product(price=price, name="Tea"))
    assert writes.puts == (product(price_cents=cents, name="Tea"),)


def test_a_converted_product_is_left_unchanged() -> None:
    assert not handle(PriceToCents, product(price_cents=1250)).puts


@pytest.mark.parametrize("price", ["on request", "0.005", "NaN", "Infinity"])
def test_an_invalid_price_fails_and_is_kept(price: str) -> None:
    with pytest.raises((ValueError, InvalidOperation, OverflowError)):
        handle(PriceToCents, product(price=price))


def test_the_query_selects_every_product() -> None:
    assert query(PriceToCents).kind == "Product"
