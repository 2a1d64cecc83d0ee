"""What one answer may bring, whatever the sizes of the entities before it say."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from google.cloud import datastore

from bulkup import Updater
from bulkup.datastore import call as call_module
from bulkup.datastore import channel
from bulkup.datastore import rpc as rpc_module
from bulkup.datastore.call_error import MAX_ANSWER_BYTES, CallError
from bulkup.datastore.keys import key_to_pb
from bulkup.datastore.queries import kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.engine import scan
from tests.conftest import Server
from tests.engine.conftest import Run, everything

LARGE_BYTES = 40_000
CAP_BYTES = 8 * LARGE_BYTES


class Touch(Updater):
    def get_query(self) -> datastore.Query:
        return self.client.query(kind="Mixed")

    def handle_entity(self, entity: datastore.Entity) -> None:
        entity["seen"] = entity.get("seen", 0) + 1
        self.put(entity)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Everything to a scale of 1 to 26, and the sizes of the answers that are received."""
    options = dict(channel._OPTIONS) | {"grpc.max_receive_message_length": CAP_BYTES}
    monkeypatch.setattr(channel, "_OPTIONS", tuple(options.items()))
    monkeypatch.setattr(scan, "MAX_PAGE_BYTES", LARGE_BYTES)
    sizes: list[int] = []
    parse = rpc_module.read_page

    def noted(answer: bytes) -> Any:
        sizes.append(len(answer))
        return parse(answer)

    monkeypatch.setattr(rpc_module, "read_page", noted)
    return sizes


def fill(server: Server, small: int, large: int) -> datastore.Client:
    client = server.client()
    entities = []
    for i in range(1, small + large + 1):
        entity = datastore.Entity(client.key("Mixed", i), exclude_from_indexes=("body",))
        entity["body"] = b"x" * (LARGE_BYTES if i > small else 10)
        entities.append(entity)
    for start in range(0, len(entities), 40):
        client.put_multi(entities[start : start + 40])
    return client


def test_small_entities_say_nothing_about_large_ones_after_them(
    server: Server, run: Run, answers: list[int]
) -> None:
    client = fill(server, small=60, large=40)
    report = run(server, Touch)
    assert (report.exit_code, report.counts.handled, report.counts.puts) == (0, 100, 100)
    assert [entity["seen"] for entity in everything(client, "Mixed")] == 100 * [1]
    assert max(answers) <= CAP_BYTES
    assert len(answers) < 60


def test_lookups_and_queries_of_any_size_arrive_in_parts(
    fs: Server, answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server answers with everything that it was asked for, in one message."""
    client = fill(fs, small=3, large=30)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", fs.host)
    with closing(Rpc(datastore.Client(project=fs.project))) as rpc:
        keys = [key_to_pb(client.key("Mixed", i)) for i in range(1, 35)]
        assert len(rpc.lookup(keys)) == 33
        assert len(list(rpc.results(kind_query("Mixed"), ""))) == 33
        assert len(list(rpc.results(kind_query("Mixed", limit=30), ""))) == 33


@pytest.mark.parametrize(
    ("details", "asked", "fewer"),
    [
        (f"Stream removed (CLIENT: Received message larger than max (90000000 vs. "
         f"{MAX_ANSWER_BYTES}))", 100, 4),
        (f"Received message larger than max (8400000 vs. {MAX_ANSWER_BYTES})", 100, 49),
        (f"Received message larger than max (8400000 vs {MAX_ANSWER_BYTES})", 2, 1),
        (f"Received message larger than max (8400000 vs. {MAX_ANSWER_BYTES})", 1, 0),
        ("SERVER: Received message larger than max (20000000 vs. 12582912)", 100, 0),
        ("gRPC message exceeds maximum size 4194304: 5000000", 100, 0),
        ("Quota exceeded.", 100, 0),
    ],
)  # fmt: skip
def test_only_an_answer_that_is_too_large_asks_for_less(
    details: str, asked: int, fewer: int
) -> None:
    error = CallError("RunQuery", call_module.grpc.StatusCode.RESOURCE_EXHAUSTED, details)
    assert error.fewer(asked) == fewer
