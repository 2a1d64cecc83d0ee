"""The servers that tests share are replaced when they are worn, and not while a test uses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests import shared_servers
from tests.shared_servers import OWN, _Servers


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts of the servers that run; each is used up by tests of the weight 3."""
    hosts: list[str] = []
    started: list[str] = []

    @contextmanager
    def starting(name: str) -> Iterator[str]:
        host = f"{name}-{len(started) + 1}"
        started.append(host)
        hosts.append(host)
        yield host
        hosts.remove(host)

    monkeypatch.setattr(shared_servers, "_starting", starting)
    monkeypatch.setattr(shared_servers, "LIFE", {"LF": 3})
    monkeypatch.delenv("BULKUP_TEST_LF", raising=False)
    return hosts


def test_a_worn_server_is_replaced_and_closed_when_no_test_uses_it(running: list[str]) -> None:
    servers = _Servers()
    with ExitStack() as first:
        assert first.enter_context(servers.lent("LF", 1)) == {"host": "LF-1"}
        with servers.lent("LF", 2) as answer:
            assert answer == {"host": "LF-1"}
        with servers.lent("LF", 1) as answer:
            assert answer == {"host": "LF-2"}
        assert running == ["LF-1", "LF-2"]
    assert running == ["LF-2"]
    servers.close()
    assert running == []


def test_a_server_without_such_a_life_is_kept(running: list[str]) -> None:
    servers = _Servers()
    for _ in range(5):
        with servers.lent("FS", 10) as answer:
            assert answer == {"host": "FS-1"}
    assert running == ["FS-1"]
    servers.close()


def test_a_test_of_many_minutes_has_a_server_of_its_own(running: list[str]) -> None:
    servers = _Servers()
    with servers.lent("LF", 1), servers.lent("LF", OWN) as own:
        assert own == {"host": "LF-2"}
        with servers.lent("LF", 1) as answer:
            assert answer == {"host": "LF-1"}
    assert running == ["LF-1"]
    servers.close()


def test_a_server_that_the_environment_names_is_not_replaced(
    running: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULKUP_TEST_LF", "127.0.0.1:8121")
    servers = _Servers()
    for _ in range(5):
        with servers.lent("LF", 10) as answer:
            assert answer == {"host": "127.0.0.1:8121"}
    assert running == []
