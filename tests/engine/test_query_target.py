"""A query, and the keys in its filters, must be of the run's own target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.datastore import Client, Entity, Key, Query
from google.cloud.datastore.query import And, Or, PropertyFilter

import bulkup
from bulkup import Updater
from bulkup.core.errors import QueryError
from bulkup.engine.scan import plan_query
from tests.chaos.proxy import Proxy, proxy_to
from tests.conftest import Server

RUN = Client(project="p", database="d", namespace="n", credentials=AnonymousCredentials())

PLACES = {
    "project": {"project": "other", "database": "d", "namespace": "n"},
    "database": {"project": "p", "database": "archive", "namespace": "n"},
    "the default database": {"project": "p", "namespace": "n"},
    "namespace": {"project": "p", "database": "d", "namespace": "other"},
    "the default namespace": {"project": "p", "database": "d"},
}
FOREIGN = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def embedded_in(key: Key) -> Entity:
    address = Entity()
    address["city"] = key
    return address


FILTERS: dict[str, Callable[[Key], Any]] = {
    "__key__": lambda key: PropertyFilter("__key__", ">", key),
    "a reference": lambda key: PropertyFilter("owner", "=", key),
    "a list": lambda key: PropertyFilter("owner", "IN", [RUN.key("Home", 1), key]),
    "a list of others": lambda key: PropertyFilter("owner", "NOT_IN", [key]),
    "an entity in a list": lambda key: PropertyFilter("homes", "IN", [embedded_in(key)]),
    "and": lambda key: And([PropertyFilter("a", "=", 1), PropertyFilter("b", "=", key)]),
    "or in and": lambda key: And(
        [
            PropertyFilter("a", "=", 1),
            Or([PropertyFilter("b", "=", 2), PropertyFilter("__key__", "<", key)]),
        ]
    ),
}


@FOREIGN
def test_a_query_of_another_place_is_refused(place: dict[str, str]) -> None:
    other = Client(credentials=AnonymousCredentials(), **place)
    with pytest.raises(QueryError, match=r"the query is for .* or run with --"):
        plan_query(other.query(kind="Thing"), RUN)


@FOREIGN
@pytest.mark.parametrize("filter_", FILTERS.values(), ids=FILTERS)
def test_a_key_of_another_target_in_a_filter_is_refused(
    place: dict[str, str], filter_: Callable[[Key], Any]
) -> None:
    query = RUN.query(kind="Thing")
    query.add_filter(filter=filter_(Key("Home", 2, **place)))
    with pytest.raises(QueryError, match=r"build the key with self\.client\.key"):
        plan_query(query, RUN)


@FOREIGN
def test_an_ancestor_of_another_target_is_refused(place: dict[str, str]) -> None:
    query = RUN.query(kind="Thing", ancestor=Key("Home", 2, **place))
    with pytest.raises(QueryError, match=r"compares __key__ with Key\('Home', 2"):
        plan_query(query, RUN)


@pytest.mark.parametrize("filter_", FILTERS.values(), ids=FILTERS)
def test_keys_of_the_target_itself_are_fine(filter_: Callable[[Key], Any]) -> None:
    query = RUN.query(kind="Thing", ancestor=RUN.key("Home", 1))
    query.add_filter(filter=filter_(RUN.key("Home", 2)))
    assert plan_query(query, RUN).has_filters or "__key__" in str(query.filters)


# --- on a server ---


class Bump(Updater):
    where: dict[str, str]

    def get_query(self) -> Query:
        return self.make_query(self.client)

    make_query: Callable[[Client], Query]

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += 1
        self.put(entity)


def of_archive(client: Client) -> Query:
    return Client(project=client.project, database="archive").query(kind="Thing")


def of_a_namespace(client: Client) -> Query:
    return client.query(kind="Thing", namespace="tenant")


def after_a_key_of_archive(client: Client) -> Query:
    query = client.query(kind="Thing")
    key = Key("Thing", 1, project=client.project, database="archive")
    query.add_filter(filter=PropertyFilter("__key__", ">=", key))
    return query


@pytest.fixture
def proxy(server: Server) -> Any:
    with proxy_to(server.host) as proxy:
        yield proxy


@pytest.mark.client_side
@pytest.mark.parametrize("make", [of_archive, of_a_namespace, after_a_key_of_archive])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_query_of_another_target_is_refused_before_anything_is_read(
    server: Server,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Client], Query],
    dry_run: bool,
) -> None:
    client = server.client()
    thing = Entity(client.key("Thing", 1))
    thing["n"] = 0
    client.put(thing)
    monkeypatch.setattr(Bump, "make_query", staticmethod(make), raising=False)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", proxy.address)
    with pytest.raises(QueryError, match=r"the run (is )?for"):
        bulkup.run(Bump, project=server.project, state_dir=tmp_path, dry_run=dry_run)
    assert not proxy.seen
    assert client.get(thing.key)["n"] == 0
