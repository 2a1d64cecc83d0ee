from __future__ import annotations

from google.cloud.datastore import Entity

from bulkup.testing import handle, offline_client, query
from updaters.split_address import SplitAddress

CLIENT = offline_client()


def customer() -> Entity:
    embedded = Entity()
    embedded.update(street="St James's Square", city="London")
    entity = Entity(CLIENT.key("Customer", 7))
    entity.update(name="Ada", address=embedded)
    return entity


def test_the_address_gets_an_entity_of_its_own() -> None:
    address, changed = handle(SplitAddress, customer()).puts
    assert address.key == CLIENT.key("Address", 7)
    assert dict(address) == {"street": "St James's Square", "city": "London"}
    assert dict(changed) == {"name": "Ada", "address_key": address.key}
    assert changed.key == customer().key


def test_handling_a_customer_twice_makes_one_address() -> None:
    assert handle(SplitAddress, customer()) == handle(SplitAddress, customer())


def test_a_customer_without_an_embedded_address_is_left_unchanged() -> None:
    _, changed = handle(SplitAddress, customer()).puts
    assert not handle(SplitAddress, changed).puts


def test_the_query_selects_every_customer() -> None:
    assert query(SplitAddress).kind == "Customer"
