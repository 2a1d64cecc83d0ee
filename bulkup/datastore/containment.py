"""Keeps clients that user code creates within the run's target, as far as possible.

User code is loaded after the target is settled and set in the environment, so `datastore.Client()`
means the target wherever it is called. In addition, each call of such a client is checked: a dry
run writes nothing, a run on a file (`--local`) reaches nothing else, and a run on a server warns
when such a client writes, because the run does not guard that write. Not checked: clients of other
libraries (the generated `datastore_v1` client, ndb in handlers that take no models), and other
processes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType
from typing import Any
from urllib.parse import urlparse

import google.cloud.datastore
from google.cloud.datastore import Client

import bulkup.core
from bulkup.core.environment import settled
from bulkup.datastore.google_private import datastore_api, watch_clients
from bulkup.datastore.target import EMULATOR_VARIABLE, Target
from bulkup.datastore.user_client import INSTEAD, UserClient, WriteInDryRunError

PROJECT_VARIABLES = ("DATASTORE_DATASET", "GOOGLE_CLOUD_PROJECT")
"""In the order in which `Client()` reads them."""

_WRITES = frozenset({"commit", "reserve_ids"})
_MADE_AT = "_bulkup_made_at"
_PACKAGES = tuple(
    os.path.join(os.path.dirname(os.path.abspath(path)), "")
    for path in (bulkup.core.__file__, __file__, google.cloud.datastore.__file__)
)


class OutsideTargetError(RuntimeError):
    """User code has called a Datastore that is not the run's target."""


@dataclass(frozen=True)
class Containment:
    """What a client created by user code may do.

    `target` is None if no target is chosen. The client may then do nothing or, with `dry_run`, only
    read.
    """

    target: Target | None
    dry_run: bool = False
    warn: Callable[[str], None] = lambda _: None
    owns_process: bool = False
    """Whether all threads of this process work for the run. False if a program has called
    `bulkup.run`: what its other threads do is not checked."""
    _warned: set[str] = field(default_factory=set)
    _thread: int = field(default_factory=threading.get_ident)

    @property
    def applies(self) -> bool:
        return self.owns_process or self._thread == threading.get_ident()

    def check(self, client: Client, call: str) -> None:
        """Raises OutsideTargetError, WriteInDryRunError."""
        where = made_at(client)
        target = self.target
        if target is None and not self.dry_run:
            raise OutsideTargetError(
                f"no target is chosen, so the client made {where} cannot be used; make it in "
                "get_query or handle_entity, or use self.client"
            )
        there = shown_target(client)
        if target is not None and target.info.local and _address(client) != _address(target.client):
            raise OutsideTargetError(
                f"the run works on {target.info.local} (--local), and the client made {where} "
                f"calls {there}; use self.client"
            )
        if call not in _WRITES:
            return
        if self.dry_run:
            raise WriteInDryRunError(
                f"nothing is written now (a dry run, for example), so the client made {where} "
                f"cannot write; {INSTEAD}, which a dry run shows and a run guards"
            )
        if where not in self._warned:
            self._warned.add(where)
            self.warn(
                f"the client made {where} writes to {there}, past this run: such writes are in no "
                f"report, and may be made twice; {INSTEAD}"
            )


_active: list[Containment] = []


@contextmanager
def contained(containment: Containment) -> Iterator[None]:
    """Within this block the environment names the target, and calls of clients are checked."""
    target = containment.target
    with settled(_variables(target, containment) if target is not None else {}):
        _active.append(containment)
        try:
            with watch_clients(made=_note_where, api=_api_of):
                yield
        finally:
            _active.remove(containment)


def _variables(target: Target, containment: Containment) -> dict[str, str]:
    variables = {}
    if not target.info.is_real:
        variables[EMULATOR_VARIABLE] = _address(target.client)
    said = next((os.environ[name] for name in PROJECT_VARIABLES if os.environ.get(name)), None)
    # Not if a program has called `bulkup.run` and the target is a server: the program's other
    # threads make clients, too.
    if said != target.info.project and (containment.owns_process or target.info.local):
        variables |= dict.fromkeys(PROJECT_VARIABLES, target.info.project)
    return variables


# --- clients ---


class _WatchedApi:
    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        for containment in reversed(list(_active)):  # the innermost is the strictest
            if containment.applies:
                containment.check(self._client, name)
        return getattr(datastore_api(self._client), name)


def _api_of(client: Client) -> Any:
    """The object through which a client sends its calls."""
    if not _active or isinstance(client, UserClient):
        return datastore_api(client)
    return _WatchedApi(client)


def _note_where(client: Client) -> None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_PACKAGES):
            client.__dict__[_MADE_AT] = f"in {PurePath(name).name}, line {frame.f_lineno}"
            return
        frame = frame.f_back


def made_at(client: Client) -> str:
    """Where a client was made, such as `in up.py, line 3`."""
    return str(client.__dict__.get(_MADE_AT, "before the run"))


def shown_target(client: Client) -> str:
    """A client's target, such as `project x, database y at localhost:8081`."""
    shown = f"project {client.project}"
    if client.database:
        shown += f", database {client.database}"
    return f"{shown} at {_address(client)}"


def _address(client: Client) -> str:
    return str(urlparse(client.base_url).netloc)
