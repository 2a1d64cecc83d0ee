"""All private interfaces of Google's libraries that bulkup depends on.

Each entry says why there is no public way. `tests/datastore/test_google_private.py` fails with an
explanation when a new version of a library changes one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from operator import attrgetter
from typing import Any, TypeVar

import grpc
from google.auth.exceptions import GoogleAuthError
from google.cloud._helpers import make_secure_channel
from google.cloud._http import DEFAULT_USER_AGENT
from google.cloud.datastore import Client, Entity, Query
from google.cloud.datastore import query as _query

from bulkup.datastore.messages import Pb

C = TypeVar("C", bound=Client)

MAX_STATE_WATCH_S = 10.0
"""How long gRPC's thread may take to stop watching a channel: it checks every 0.2 s, and on a busy
machine it may have to wait for its turn."""

CLOSES_WITHIN_S = 5.0
"""How long to wait for gRPC to close a channel after Ctrl-C; usually under 1 ms."""

REFRESH_TIMEOUT_S = 10.0
"""How long a request for a new token may take. Nothing else is done meanwhile."""

meanings_of: Any = attrgetter("_meanings")
"""The meanings of an entity's properties, {name: (meaning, the value it was read with)}. The
official client writes them from there and offers no other access."""


def secure_channel(client: Client, address: str, options: tuple[tuple[str, int], ...]) -> Any:
    """The channel that the official client would open, with its credentials.

    `Client` builds it privately and takes no options, and its channel refuses answers above 4 MiB.
    """
    if ":" not in address:
        return make_secure_channel(client._credentials, DEFAULT_USER_AGENT, address, options)
    # `make_secure_channel` appends a port of its own, also to an `api_endpoint` that has one.
    from google.auth.transport.grpc import secure_authorized_channel
    from google.auth.transport.requests import Request

    options_ = ("grpc.primary_user_agent", DEFAULT_USER_AGENT), *options
    return secure_authorized_channel(client._credentials, Request(), address, options=options_)


def refresh_token(client: Client) -> str:
    """Get a new token for the channels of a client. Returns why that was not possible, or "".

    gRPC requests one only when the old one expires. `Client` has no public access to its
    credentials.
    """
    from google.auth.transport.requests import Request

    request = partial(Request(), timeout=REFRESH_TIMEOUT_S)
    try:
        client._credentials.refresh(request)
    except GoogleAuthError as error:
        return str(error)
    return ""


def query_message(query: Query) -> Pb:
    """The message of an official query: `Query` has no public way to show it."""
    return _query._pb_from_query(query)._pb


def database_of(query: Query) -> str:
    """The database that a query was made for; empty for the default one. `Query` exposes only its
    project and its namespace, and sends its client's database."""
    return query._client.database or ""


def copy_of(client: Client, class_: type[C]) -> C:
    """Copy a client, as another class or to change its settings.

    The constructor would resolve credentials and project again, which takes a second and may give
    different ones. `Client` keeps all its state in its `__dict__`.
    """
    copy: C = object.__new__(class_)
    copy.__dict__.update(client.__dict__)
    return copy


_init, _api = Client.__init__, Client._datastore_api


def datastore_api(client: Client) -> Any:
    """The object through which the official client sends its calls. A dry run wraps it in a
    guard."""
    return _api.fget(client)


_watchers = 0


@contextmanager
def watch_clients(
    *, made: Callable[[Client], None], api: Callable[[Client], Any]
) -> Iterator[None]:
    """Within this block, call `made` with each new client, and let each client send its calls
    through what `api` returns. `Client` has no hook, and user code makes its own clients.

    Blocks may overlap if all of them pass the same functions.
    """
    global _watchers

    @wraps(_init)
    def init(client: Client, *args: Any, **options: Any) -> None:
        _init(client, *args, **options)
        made(client)

    _watchers += 1
    Client.__init__, Client._datastore_api = init, property(api)
    try:
        yield
    finally:
        _watchers -= 1
        if not _watchers:
            Client.__init__, Client._datastore_api = _init, _api


def ready_future(channel: Any) -> Any:
    """gRPC's `channel_ready_future`, made safe for `close_channel` if Ctrl-C interrupts it.

    gRPC notes that its thread watches the channel only after that thread has started.
    """
    before = set(threading.enumerate())
    try:
        return grpc.channel_ready_future(channel)
    except BaseException:
        if set(threading.enumerate()) - before:
            channel._connectivity_state.polling = True
        raise


def close_channel(channel: Any, *, interrupted: bool = False) -> None:
    """Close a channel that `ready_future` may have watched. Its calls in flight are cancelled.

    `interrupted`: Ctrl-C came while gRPC was sending a call. If gRPC had not yet started the thread
    that receives the answer, the call never ends, and gRPC would wait for it forever. So the
    channel is closed by a thread, which is left behind after CLOSES_WITHIN_S.

    The future's thread watches the channel for another 0.2 s after the future is done, and dies
    with a traceback if the channel is closed meanwhile. There is no public way to wait for it.
    """
    channel._unsubscribe_all()
    give_up = time.monotonic() + MAX_STATE_WATCH_S
    while channel._connectivity_state.polling and time.monotonic() < give_up:
        time.sleep(0.005)
    if not interrupted:
        channel.close()
        return
    closing = threading.Thread(target=channel.close, name="bulkup-close-channel", daemon=True)
    closing.start()
    closing.join(CLOSES_WITHIN_S)


ENTITY_STATE = frozenset({"key", "exclude_from_indexes", "_meanings"})
"""Everything in an `Entity` except its properties. `LazyEntity` provides each of them by itself and
never runs `Entity.__init__`."""

__all__ = [
    "ENTITY_STATE", "Entity", "close_channel", "copy_of", "database_of", "datastore_api",
    "meanings_of",
    "query_message", "ready_future", "refresh_token", "secure_channel", "watch_clients",
]  # fmt: skip
