"""Requests say that they are bulkup's, and for which updater: the bill can be sliced by that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.datastore import messages, request_tags
from bulkup.datastore.call import Call
from bulkup.datastore.request_tags import ARE_SUPPORTED, MAX_NAME, tagged
from bulkup.datastore.rpc import Rpc
from tests.conftest import Server
from tests.engine.conftest import fill

REQUESTS = {
    "RunQuery": messages.RunQueryRequest,
    "RunAggregationQuery": messages.RunAggregationQueryRequest,
    "Lookup": messages.LookupRequest,
    "Commit": messages.CommitRequest,
    "AllocateIds": messages.AllocateIdsRequest,
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every attempt of a call: its name and its request."""
    requests: list[tuple[str, Any]] = []
    send: Callable[[Call[Any]], None] = Call._send

    def noted(call: Call[Any]) -> None:
        requests.append((call.name, REQUESTS[call.name].FromString(call.payload)))
        send(call)

    monkeypatch.setattr(Call, "_send", noted)
    return requests


def tags_of(request: Any) -> list[str]:
    return list(request.request_options.request_tags) if ARE_SUPPORTED else []


class Names(bulkup.Updater):
    """Sends every kind of request."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        self.client.get(self.client.key("Other", 1))
        child = Entity(self.client.key("Child"))
        self.put(child)
        entity["child"] = child.key.id
        self.put(entity)


def test_every_request_is_tagged_and_every_server_takes_it(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: list[tuple[str, Any]],
) -> None:
    fill(server, "Thing", 5)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    report = bulkup.run(Names, project=server.project, state_dir=tmp_path / "state")
    assert (report.counts.written, report.counts.failed) == (5, 0)
    assert {name for name, _ in sent} == set(REQUESTS)
    for name, request in sent:
        assert tags_of(request) == (["bulkup", "updater=Names"] if ARE_SUPPORTED else []), name


def test_a_request_that_is_sent_again_is_the_same(embedded: Server) -> None:
    rpc = Rpc(embedded.client())
    rpc.tag("One")
    try:
        call = rpc.count(messages.QueryPb(kind=[{"name": "Thing"}]), "")
        rpc.tag("Two")
        again = call.again()
        assert again.payload == call.payload
        newer = rpc.count(messages.QueryPb(kind=[{"name": "Thing"}]), "")
        assert (b"updater=One" in again.payload) == ARE_SUPPORTED
        assert (b"updater=Two" in newer.payload) == ARE_SUPPORTED
    finally:
        rpc.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("AddFullName", "AddFullName"),
        ("übergröße", "_bergr__e"),
        ('x"\n\x00;\ud800', "x_____"),
        ("n" * 5000, "n" * MAX_NAME),
    ],
)
def test_names_are_plain_and_short_in_tags(
    name: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages.CommitRequest(**tagged(name)).SerializeToString()
    monkeypatch.setattr(request_tags, "ARE_SUPPORTED", True)
    assert tagged(name) == {"request_options": {"request_tags": ["bulkup", f"updater={shown}"]}}


def test_a_client_without_the_field_sends_no_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_tags, "ARE_SUPPORTED", False)
    assert tagged("AddFullName") == {}
