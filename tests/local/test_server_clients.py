"""The official clients, unchanged: google-cloud-datastore and google-cloud-ndb."""

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.api_core.exceptions import Aborted
from google.cloud import datastore
from google.cloud.datastore.query import And, Or, PropertyFilter

from bulkup.local.process import start_local
from tests.local.rpc import Rpc, unindexed

pytestmark = pytest.mark.sampled(2)

UTC = datetime.UTC


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_local(tmp_path_factory.mktemp("local") / "db") as server:
        yield server.host


@pytest.fixture
def client(host: str, monkeypatch: pytest.MonkeyPatch) -> datastore.Client:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", host)
    return datastore.Client(project=f"t-{uuid.uuid4().hex[:12]}")


def entity(client: datastore.Client, *path: object, **properties: object) -> datastore.Entity:
    one = datastore.Entity(client.key(*path))
    one.update(properties)
    return one


def test_the_datastore_client_reads_what_it_wrote(client: datastore.Client) -> None:
    one = entity(
        client,
        "Person",
        "ada",
        born=datetime.datetime(1815, 12, 10, tzinfo=UTC),
        tags=["math", "poetry"],
        home=entity(client, "Place", 1, city="London"),
        friend=client.key("Person", "charles"),
        score=1.5,
        photo=b"\x00\xff",
        none=None,
    )
    client.put(one)
    assert client.get(one.key) == one
    new = entity(client, "Person", name="new")
    client.put(new)
    assert new.key.id is not None
    missing: list[datastore.Entity] = []
    found = client.get_multi([one.key, client.key("Person", "nobody")], missing=missing)
    assert [each.key for each in found] == [one.key]
    assert [each.key for each in missing] == [client.key("Person", "nobody")]
    client.delete_multi([one.key, new.key])
    assert client.get(one.key) is None


def test_the_datastore_client_pages_through_everything(client: datastore.Client) -> None:
    for start in range(0, 1200, 400):
        client.put_multi(
            [entity(client, "K", i + 1, n=i, g=i % 10) for i in range(start, start + 400)]
        )
    query = client.query(kind="K", order=["-n"])
    assert [one["n"] for one in query.fetch()] == list(range(1199, -1, -1))
    assert [one["n"] for one in query.fetch(limit=700, offset=100)] == list(range(1099, 399, -1))
    pages = query.fetch(limit=5)
    first = list(pages)
    rest = query.fetch(start_cursor=pages.next_page_token, limit=5)
    assert [one["n"] for one in [*first, *rest]] == list(range(1199, 1189, -1))
    query = client.query(kind="K")
    query.add_filter(
        filter=Or(
            [
                And([PropertyFilter("g", "=", 3), PropertyFilter("n", "<", 50)]),
                PropertyFilter("n", ">=", 1190),
            ]
        )
    )
    numbers = sorted(one["n"] for one in query.fetch())
    assert numbers == [3, 13, 23, 33, 43, *range(1190, 1200)]
    count = client.aggregation_query(client.query(kind="K")).count(alias="all").sum("n", alias="s")
    results = {one.alias: one.value for batch in count.fetch() for one in batch}
    assert results == {"all": 1200, "s": sum(range(1200))}


def test_the_datastore_client_reads_the_last_large_page_as_fast_as_the_first(
    host: str, client: datastore.Client
) -> None:
    """A server whose flow control gets in the way of the client's bandwidth probe slows down by two
    orders of magnitude within 40 pages."""
    rpc = Rpc(host, client.project)
    text = unindexed("x" * 39_000)
    for start in range(1, 1201, 200):
        rpc.put(*(rpc.entity("Large", n, text=text) for n in range(start, start + 200)))
    rpc.close()
    list(client.query(kind="Large").fetch(limit=1))
    took, found = [], 0
    began = time.perf_counter()
    for page in client.query(kind="Large").fetch().pages:
        found += len(list(page))
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
    assert found == 1200
    assert len(took) >= 30
    assert statistics.median(took[-10:]) < 10 * statistics.median(took[:10])


def test_the_datastore_client_s_transactions(client: datastore.Client) -> None:
    one = entity(client, "K", 1, n=0)
    client.put(one)
    with client.transaction():
        inside = client.get(one.key)
        inside["n"] += 1
        client.put(inside)
    assert client.get(one.key)["n"] == 1
    conflict = client.transaction()
    conflict.begin()
    inside = client.get(one.key, transaction=conflict)
    inside["n"] = 7
    conflict.put(inside)
    client.put(entity(client, "K", 1, n=5))
    with pytest.raises(Aborted):
        conflict.commit()
    assert client.get(one.key)["n"] == 5
    with client.transaction(read_only=True):
        assert client.get(one.key)["n"] == 5
    given_up = client.transaction()
    given_up.begin()
    given_up.put(entity(client, "K", 1, n=9))
    given_up.rollback()
    assert client.get(one.key)["n"] == 5
    with client.transaction(begin_later=True):
        assert client.get(one.key)["n"] == 5


def test_the_datastore_client_s_read_time_and_namespaces(client: datastore.Client) -> None:
    client.put(entity(client, "K", 1, n=1))
    pages = client.query(kind="K").fetch()
    list(pages)
    then = datetime.datetime.now(UTC)
    client.put(entity(client, "K", 1, n=2))
    assert client.get(client.key("K", 1), read_time=then)["n"] == 1
    assert [one["n"] for one in client.query(kind="K").fetch(read_time=then)] == [1]
    other = client.key("K", 1, namespace="other")
    client.put(datastore.Entity(other))
    assert len(list(client.query(kind="K", namespace="other").fetch())) == 1
    assert client.allocate_ids(client.key("K"), 3)
    client.reserve_ids_multi([client.key("K", 5)])


def test_concurrent_transactions_of_the_datastore_client_lose_no_increment(
    client: datastore.Client,
) -> None:
    key = client.key("Counter", 1)
    client.put(entity(client, "Counter", 1, n=0))

    def count() -> None:
        for _ in range(10):
            while True:
                try:
                    with client.transaction():
                        one = client.get(key)
                        one["n"] += 1
                        client.put(one)
                    break
                except Aborted:
                    continue

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(count) for _ in range(4)]:
            future.result()
    assert client.get(key)["n"] == 40


NDB = """
import sys
from google.cloud import ndb

class Address(ndb.Model):
    city = ndb.StringProperty()

class Person(ndb.Model):
    name = ndb.StringProperty()
    age = ndb.IntegerProperty()
    tags = ndb.StringProperty(repeated=True)
    address = ndb.StructuredProperty(Address)
    addresses = ndb.StructuredProperty(Address, repeated=True)
    born = ndb.DateTimeProperty(auto_now_add=True)
    data = ndb.JsonProperty()

client = ndb.Client(project=sys.argv[1])
with client.context(cache_policy=False):
    keys = ndb.put_multi([
        Person(name=f"p{i}", age=i, tags=["a", f"t{i % 2}"], address=Address(city=f"c{i % 3}"),
               addresses=[Address(city="x"), Address(city=f"y{i}")], data={"i": i})
        for i in range(30)
    ])
    assert keys[3].get().data == {"i": 3}
    assert Person.query().count() == 30
    old = Person.query(Person.age >= 25).order(-Person.age)
    assert [p.age for p in old] == [29, 28, 27, 26, 25]
    assert Person.query(Person.tags == "t1").count() == 15
    assert Person.query(Person.tags.IN(["t0", "t1"])).count() == 30
    assert Person.query(ndb.OR(Person.age == 1, Person.age == 2)).count() == 2
    assert Person.query(Person.age != 3).count() == 29
    assert len(Person.query(Person.address.city == "c1").fetch()) == 10
    assert [p.age for p in Person.query(Person.addresses.city == "y7")] == [7]
    projected = Person.query().order(Person.age).fetch(3, projection=[Person.age, Person.born])
    assert [p.age for p in projected] == [0, 1, 2] and projected[0].born is not None
    assert len(Person.query(projection=[Person.tags], distinct_on=[Person.tags]).fetch()) == 3
    page, cursor, more = Person.query().order(Person.age).fetch_page(10)
    assert [p.age for p in page] == list(range(10)) and more
    page, cursor, more = Person.query().order(Person.age).fetch_page(10, start_cursor=cursor)
    assert [p.age for p in page] == list(range(10, 20)) and more
    assert len(Person.query().fetch(keys_only=True)) == 30
    later = Person.query().order(Person.age).fetch(5, offset=20)
    assert [p.age for p in later] == list(range(20, 25))

    @ndb.transactional()
    def birthday(key):
        person = key.get()
        person.age += 100
        person.put()

    birthday(keys[0])
    assert keys[0].get().age == 100

    @ndb.transactional()
    def child(key):
        assert Person.query(ancestor=key).count() == 1
        Person(parent=key, name="child").put()

    child(keys[0])
    assert Person.query(ancestor=keys[0]).count() == 2
    assert Person.get_or_insert("one", name="one").name == "one"
    from google.cloud.ndb import metadata
    assert metadata.get_kinds() == ["Person"]
    assert "address.city" in metadata.get_properties_of_kind("Person")
    assert metadata.get_namespaces() == [""]
    ndb.delete_multi(keys)
    assert Person.query(Person.age >= 0).count() == 0
    start, end = Person.allocate_ids(2)
print("ok")
"""


def test_ndb(host: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(NDB)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), f"t-{uuid.uuid4().hex[:12]}"],
        env={"DATASTORE_EMULATOR_HOST": host, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "ok\n"
