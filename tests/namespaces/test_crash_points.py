"""The process dies at any call: before it is sent, or before its answer arrives."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from bulkup.datastore.call import ATTEMPT_TIMEOUT_S, Call
from bulkup.engine.options import Options
from bulkup.namespaces.group_run import run_in_namespaces
from bulkup.runs import acquire
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import load_updater
from bulkup.runs.target import TargetOptions, open_target
from bulkup.state.kinds import CLAIM_KIND, GROUP_KIND
from tests.chaos.bench import dead_holder
from tests.chaos.conftest import STRIDES
from tests.cli.shell import seed, values
from tests.conftest import Server

SPACES = ("a", "b", "c")
ITEMS = 3

SOURCE = """
from bulkup import Updater

class Bump(Updater):
    def get_query(self):
        return self.client.query(kind="Item")

    def handle_entity(self, entity):
        entity["n"] += 1
        self.put(entity)
"""


class Died(BaseException):
    pass


class Life:
    """Dies at a call. A dead process sends nothing more, not even in a `finally`."""

    def __init__(self, at: int | None, *, is_sent: bool) -> None:
        self.calls = 0
        self._at, self._is_sent = at, is_sent
        self._send = Call._send

    def send(self, call: Call[Any]) -> None:
        self.calls += 1
        if self._at is None or self.calls < self._at:
            self._send(call)
            return
        if self.calls == self._at and self._is_sent:
            self._send(call)
            call._future.exception(ATTEMPT_TIMEOUT_S)
        raise Died


def live(life: Life, server: Server, folder: Path, patch: pytest.MonkeyPatch) -> None:
    with patch.context() as patched:
        patched.setattr(Call, "_send", lambda call: life.send(call))
        loaded = load_updater(str(folder / "bump.py"), {})
        # A new disk each time.
        context = RunContext(Options(batch_size=2), folder / f"state-{id(life)}", lambda _: None)
        with open_target(TargetOptions(server.project)) as target:
            assert run_in_namespaces(loaded, target, "*", context).success


@STRIDES
@pytest.mark.parametrize("is_sent", [False, True], ids=["not sent", "sent"])
def test_after_death_at_any_call_the_next_process_does_only_the_rest(
    em_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sent: bool, stride: int
) -> None:
    monkeypatch.setattr(acquire, "this_process", dead_holder)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", em_host)
    (tmp_path / "bump.py").write_text(SOURCE)
    at, deaths = 1, 0
    while True:
        server = Server("EM", em_host, f"t-{uuid.uuid4().hex[:12]}")
        clients = [seed(server, ITEMS, namespace=namespace) for namespace in SPACES]
        try:
            live(Life(at, is_sent=is_sent), server, tmp_path, monkeypatch)
            break
        except Died:
            deaths += 1
        was_over = not list(server.client().query(kind=GROUP_KIND).fetch()) and all(
            set(values(client).values()) == {1} for client in clients
        )
        if not was_over:
            live(Life(None, is_sent=False), server, tmp_path, monkeypatch)
        for client in clients:
            assert set(values(client).values()) == {1}, at
            assert list(client.query(kind=CLAIM_KIND).fetch()) == []
            client.close()
        assert list(server.client().query(kind=GROUP_KIND).fetch()) == []
        at += stride
    assert deaths >= 40 // stride
