"""The private interfaces that bulkup depends on, as the installed libraries have them.

A failure here means: adapt `bulkup/datastore/google_private.py` to the new version first.
"""

from __future__ import annotations

import inspect
import re
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import RefreshError
from google.cloud import _helpers, _http
from google.cloud.datastore import Client, Entity, query
from google.cloud.datastore.helpers import entity_from_protobuf, entity_to_protobuf

import bulkup
from bulkup.datastore import google_private
from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import EntityPb, ValuePb
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.user_client import _OPTIONS
from tests.conftest import Server

PACKAGE = Path(bulkup.__file__).parent


def client() -> Client:
    return Client(project="p", database="d", credentials=AnonymousCredentials())


def test_no_other_file_uses_private_names_of_googles_libraries() -> None:
    private = re.compile(
        r"google\.cloud\._|\b_pb_from_query|\._datastore_api\b|\._credentials\b|_poll_connectivity"
        r"|\)\._pb\b|entity\._meanings"
    )
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if private.search(path.read_text())
    }
    assert users == {"datastore/google_private.py"}


def test_the_client_keeps_its_credentials() -> None:
    assert hasattr(client(), "_credentials"), "Client has no `_credentials` any more"


def test_a_secure_channel_takes_credentials_agent_host_and_options() -> None:
    names = list(inspect.signature(_helpers.make_secure_channel).parameters)
    assert names == ["credentials", "user_agent", "host", "extra_options"], (
        "make_secure_channel takes other arguments now"
    )
    assert "gcloud-python" in _http.DEFAULT_USER_AGENT
    channel = google_private.secure_channel(client(), "localhost:1", (("grpc.x", 1),))
    assert isinstance(channel, grpc.Channel)
    channel.close()


class Rotating(Credentials):  # type: ignore[misc, no-untyped-call]
    """Credentials that hand out a new token each time, until there are none."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.asked = 0

    def refresh(self, request: Any) -> None:
        self.asked += 1
        if self.asked > self.tokens:
            raise RefreshError("invalid_grant: the account is gone")
        self.token = f"token {self.asked}"


def test_a_refused_token_is_replaced_once_for_all_calls_that_carried_it() -> None:
    credentials = Rotating(tokens=1)
    rpc = Rpc(Client(project="p", credentials=credentials))
    error = CallError("Commit", grpc.StatusCode.UNAUTHENTICATED, "expired")
    sent = rpc.monotonic()
    rpc.refresh_credentials(sent, error)
    rpc.refresh_credentials(sent, error)
    assert (credentials.asked, credentials.token, error.details) == (1, "token 1", "expired")
    rpc.refresh_credentials(rpc.monotonic(), error)
    assert credentials.asked == 2
    assert "the account is gone" in error.details
    rpc.close()


def test_a_query_shows_its_message() -> None:
    made = client().query(kind="K")
    made.keys_only()
    message = google_private.query_message(made)
    assert (message.kind[0].name, message.projection[0].property.name) == ("K", "__key__"), (
        f"{query.__name__}._pb_from_query gives another message now"
    )


def test_a_query_knows_the_database_of_its_client() -> None:
    assert google_private.database_of(client().query(kind="K")) == "d", (
        "Query keeps its client elsewhere now"
    )
    other = Client(project="p", credentials=AnonymousCredentials())
    assert google_private.database_of(other.query(kind="K")) == ""


def test_a_client_keeps_all_its_state_in_its_dict() -> None:
    class Other(Client):  # type: ignore[misc]
        pass

    original = client()
    copy = google_private.copy_of(original, Other)
    assert type(copy) is Other
    assert vars(copy) == vars(original) != {}, "a copied client lacks some state of the original"
    assert (copy.project, copy.database, copy.base_url) == ("p", "d", original.base_url)
    assert copy.key("K", 1) == original.key("K", 1)


def test_the_official_calls_go_through_one_object(server: Server) -> None:
    api = google_private.datastore_api(server.client())
    assert callable(api.commit), "the client does not commit through `_datastore_api` any more"
    assert {"commit", "lookup", "run_query"} <= set(dir(api))


def test_an_entity_has_no_state_that_bulkup_does_not_know() -> None:
    assert set(vars(Entity())) == google_private.ENTITY_STATE, (
        "Entity keeps other state now; LazyEntity has to provide it"
    )


def test_meanings_are_kept_with_the_value_they_were_read_with() -> None:
    message = EntityPb(properties={"a": ValuePb(string_value="x", meaning=9)})
    entity = entity_from_protobuf(message)
    assert google_private.meanings_of(entity) == {"a": (9, "x")}, (
        "the official client keeps meanings in another form now"
    )
    assert entity_to_protobuf(entity)._pb == message


def test_messages_inside_a_message_are_the_same_objects_while_they_live() -> None:
    value = ValuePb()
    value.entity_value.SetInParent()
    assert value.entity_value is value.entity_value, (
        "protobuf wraps nested messages anew each time; LazyEntity tells its origin by `is`"
    )


def test_a_channel_is_closed_when_grpc_no_longer_watches_it(server: Server) -> None:
    channel = grpc.insecure_channel(server.host)
    grpc.channel_ready_future(channel).result(timeout=30)
    assert channel._connectivity_state.polling, "gRPC watches a channel's state in another way now"
    google_private.close_channel(channel)  # the thread would die of a channel closed under it
    assert not channel._connectivity_state.polling


def test_ctrl_c_while_grpc_starts_to_watch_a_channel_leaves_no_traceback(
    embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the thread has started, and before gRPC has noted that."""
    died: list[object] = []
    started: list[threading.Thread] = []
    has_turn = threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        run = thread.run
        monkeypatch.setattr(thread, "run", lambda: has_turn.wait() and run())
        start(thread)
        started.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading, "excepthook", died.append)
    channel = grpc.insecure_channel(embedded.host)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            google_private.ready_future(channel)
    turn = threading.Timer(0.1, has_turn.set)  # while the channel is being closed
    turn.start()
    google_private.close_channel(channel)
    (watcher,) = started
    watcher.join(timeout=google_private.MAX_STATE_WATCH_S)
    turn.join()
    assert not watcher.is_alive()
    assert died == []


def test_a_channel_is_closed_if_ctrl_c_left_a_call_that_nothing_receives(
    embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when gRPC has sent a call, and before it starts the receiving thread."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(google_private, "CLOSES_WITHIN_S", 0.2)
    rpc = Rpc(embedded.client())
    with monkeypatch.context() as patched:
        patched.setattr("grpc._channel._run_channel_spin_thread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rpc.methods["Lookup"].future(b"")
    rpc.close()
    assert any(thread.name == "bulkup-close-channel" for thread in threading.enumerate()), (
        "gRPC closes such a channel now; close_channel needs no thread"
    )


def test_a_channel_is_closed_at_once_beside_threads_of_others(server: Server) -> None:
    """The thread of another connection that begins at the same moment is none of it."""
    over = threading.Event()
    channel = grpc.insecure_channel(server.host)
    ready = grpc.channel_ready_future(channel)
    other = threading.Thread(target=over.wait)
    other.start()
    ready.result(timeout=30)
    begun = time.monotonic()
    google_private.close_channel(channel)
    assert time.monotonic() - begun < google_private.MAX_STATE_WATCH_S
    over.set()
    other.join()


def test_every_read_of_the_client_goes_through_one_object() -> None:
    """A dry run and the guards of reads stand before it."""
    for method in (Client.get_multi, query.Iterator._next_page):
        assert "_datastore_api" in inspect.getsource(method)
    arguments = list(inspect.signature(Client.get_multi).parameters)
    assert arguments == ["self", "keys", "missing", *_OPTIONS]
