"""One run of somebody else's way, or of a floor, against a stub, measured: prints a line of JSON.

    python -m benchmarks.run_peer HOST:PORT NAME ENTITIES

NAME is a function below. All change the property `visits` of the first ENTITIES entities of the
kind and write them back, 500 a commit; the floors send bytes that were made before.
"""

from __future__ import annotations

import atexit
import json
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.canned import FIRST_ID, KIND, PROJECT, key_of
from benchmarks.measure import measured
from benchmarks.skim import end_cursor

BATCH = 500
IN_FLIGHT = 4
SHARDS = 8
TIMEOUT_S = 120

Work = Callable[[], None]
Peer = Callable[[str, int], Work]
"""Imports what it needs, and gives the work that is measured."""


class NotInstalled(Exception):
    pass


def official(host: str, entities: int) -> Work:
    """The loop that everybody writes with google-cloud-datastore."""
    from google.cloud import datastore

    def work() -> None:
        client = datastore.Client(project=PROJECT)
        changed = []
        for entity in client.query(kind=KIND).fetch(limit=entities):
            entity["visits"] = entity["group"] + len(entity["name"]) + 10_000
            changed.append(entity)
            if len(changed) == BATCH:
                client.put_multi(changed)
                changed = []
        if changed:
            client.put_multi(changed)

    return work


def ndb(host: str, entities: int) -> Work:
    """Pages of 500 and `put_multi`, without its cache, which would only grow."""
    try:
        from google.cloud import ndb
    except ImportError as error:
        raise NotInstalled("google-cloud-ndb") from error

    class Home(ndb.Model):
        city = ndb.TextProperty()

    class Person(ndb.Model):
        name = ndb.StringProperty()
        email = ndb.StringProperty()
        group = ndb.IntegerProperty()
        score = ndb.FloatProperty()
        visits = ndb.IntegerProperty()
        active = ndb.BooleanProperty()
        joined = ndb.DateTimeProperty()
        tags = ndb.StringProperty(repeated=True)
        home = ndb.StructuredProperty(Home)
        about = ndb.TextProperty()

    def work() -> None:
        with ndb.Client(project=PROJECT).context(cache_policy=False):
            query, cursor, left = Person.query(), None, entities
            while left > 0:
                page, cursor, _ = query.fetch_page(min(BATCH, left), start_cursor=cursor)
                for person in page:
                    person.visits = person.group + len(person.name) + 10_000
                ndb.put_multi(page)
                left -= len(page)

    return work


def beam(host: str, entities: int) -> Work:
    """DatastoreIO on the direct runner, without its ramp-up."""
    return _datastore_io(entities, throttle_rampup=False)


def beam_ramping(host: str, entities: int) -> Work:
    """The same with its ramp-up and its hint that there is one worker."""
    return _datastore_io(entities, throttle_rampup=True, hint_num_workers=1)


def _datastore_io(entities: int, **writing: Any) -> Work:
    try:
        import apache_beam
        from apache_beam.io.gcp.datastore.v1new import datastoreio
        from apache_beam.io.gcp.datastore.v1new.types import Query
    except ImportError as error:
        raise NotInstalled("apache-beam[gcp]") from error

    def change(entity: Any) -> Any:
        values = entity.properties
        values["visits"] = values["group"] + len(values["name"]) + 10_000
        return entity

    def work() -> None:
        with apache_beam.Pipeline() as pipeline:
            (
                pipeline
                | datastoreio.ReadFromDatastore(Query(KIND, PROJECT, limit=entities))
                | apache_beam.Map(change)
                | datastoreio.WriteToDatastore(PROJECT, **writing)
            )

    return work


def on_beam(host: str, entities: int) -> Work:
    """bulkup on the direct runner, all entities, in ranges."""
    try:
        import apache_beam

        import bulkup.beam
    except ImportError as error:
        raise NotInstalled("apache-beam[gcp]") from error
    folder = tempfile.mkdtemp(prefix="bulkup-benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    updaters = str(Path(__file__).with_name("updaters.py"))

    def work() -> None:
        with apache_beam.Pipeline() as pipeline:
            reports = pipeline | bulkup.beam.Apply(
                f"{updaters}:Touch", project=PROJECT, ranges=SHARDS, state_dir=folder
            )
            _ = reports | apache_beam.Map(_check)

    return work


def _check(report: Any) -> None:
    if not report.success:
        raise SystemExit(f"the run ended early: {report.reason}")


# --- floors: what no client can be faster than without doing less ---


def floor(host: str, entities: int) -> Work:
    """One chain of cursors with a page read ahead, 4 commits in flight; the commits' bytes are
    those of a guarded write of every entity, made before, and nothing of a page is looked at but
    its cursor."""
    return _floor(host, entities, 1)


def floor_shards(host: str, entities: int) -> Work:
    """The same on 8 key ranges at once, each with its own 4 commits in flight."""
    return _floor(host, entities, SHARDS)


def _floor(host: str, entities: int, shards: int) -> Work:
    import grpc

    commits = {n: _commit_bytes(host, n) for n in {BATCH, *_odd_sizes(entities, shards)}}
    bounds = [entities * i // shards for i in range(shards + 1)]
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

    def work() -> None:
        with grpc.insecure_channel(host, options=options) as channel:
            query = channel.unary_unary("/google.datastore.v1.Datastore/RunQuery")
            commit = channel.unary_unary("/google.datastore.v1.Datastore/Commit")

            def chain(start: int, end: int) -> None:
                under_way: deque[Any] = deque()
                ahead = query.future(_query_bytes(start, end, b""), timeout=TIMEOUT_S)
                while start < end:
                    cursor = end_cursor(ahead.result())
                    count = min(BATCH, end - start)
                    start += count
                    if start < end:
                        request = _query_bytes(start, end, cursor)
                        ahead = query.future(request, timeout=TIMEOUT_S)
                    if len(under_way) == IN_FLIGHT:
                        under_way.popleft().result()
                    under_way.append(commit.future(commits[count], timeout=TIMEOUT_S))
                while under_way:
                    under_way.popleft().result()

            if shards == 1:
                chain(0, entities)
                return
            errors: list[BaseException] = []

            def guarded(start: int, end: int) -> None:
                try:
                    chain(start, end)
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=guarded, args=pair) for pair in pairwise(bounds)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]

    return work


def _odd_sizes(entities: int, shards: int) -> set[int]:
    bounds = [entities * i // shards for i in range(shards + 1)]
    return {(b - a) % BATCH for a, b in pairwise(bounds)} - {0}


def _query_bytes(start: int, end: int, cursor: bytes) -> bytes:
    from google.cloud.datastore_v1.types import datastore, query

    request = datastore.RunQueryRequest.pb()(project_id=PROJECT)
    request.query.kind.add(name=KIND)
    request.query.limit.value = BATCH
    request.query.start_cursor = cursor
    both = request.query.filter.composite_filter
    both.op = query.CompositeFilter.Operator.AND
    for op, position in (("GREATER_THAN_OR_EQUAL", start), ("LESS_THAN", end)):
        one = both.filters.add().property_filter
        one.property.name = "__key__"
        one.op = query.PropertyFilter.Operator[op]
        one.value.key_value.CopyFrom(key_of(position))
    return request.SerializeToString()


def _commit_bytes(host: str, count: int) -> bytes:
    """What a client sends that has changed every entity of a page."""
    import grpc
    from google.cloud.datastore_v1.types import datastore

    with grpc.insecure_channel(host) as channel:
        lookup = channel.unary_unary("/google.datastore.v1.Datastore/Lookup")
        asked = datastore.LookupRequest.pb()(project_id=PROJECT, keys=[key_of(0)])
        found = datastore.LookupResponse.pb().FromString(
            lookup(asked.SerializeToString(), timeout=TIMEOUT_S)
        )
    request = datastore.CommitRequest.pb()(project_id=PROJECT, mode="TRANSACTIONAL")
    request.single_use_transaction.read_write.SetInParent()
    for number in range(count):
        mutation = request.mutations.add(
            update=found.found[0].entity,
            base_version=found.found[0].version,
            conflict_resolution_strategy="FAIL",
        )
        mutation.update.key.path[-1].id = FIRST_ID + number
    return request.SerializeToString()


PEERS: dict[str, Peer] = {
    peer.__name__: peer
    for peer in (official, ndb, beam, beam_ramping, on_beam, floor, floor_shards)
}


def main() -> None:
    host, name, entities = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        work = PEERS[name](host, entities)
    except NotInstalled as missing:
        print(json.dumps({"absent": f"not installed ({missing})"}))
        return
    _, facts = measured(work, host)
    print(json.dumps({"entities": entities, **facts}))


if __name__ == "__main__":
    main()
