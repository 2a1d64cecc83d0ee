from __future__ import annotations

from google.cloud.datastore import Entity

from bulkup.testing import handle, query
from updaters.backfill_full_name import add_full_name


def person(**properties: str) -> Entity:
    entity = Entity()
    entity.update(first="Ada", last="Lovelace", **properties)
    return entity


def test_the_names_are_joined() -> None:
    # Still an ordinary function: no run, no Datastore, no key.
    changed = add_full_name(person())
    assert changed is not None
    assert changed["full_name"] == "Ada Lovelace"
    assert add_full_name(person(), sep="-") == person(full_name="Ada-Lovelace")


def test_an_existing_full_name_is_kept() -> None:
    assert add_full_name(person(full_name="Countess of Lovelace")) is None
    assert not handle(add_full_name, person(full_name="Countess of Lovelace")).puts


def test_the_query_selects_every_person() -> None:
    assert query(add_full_name).kind == "Person"
