"""End to end: all cities of the world, and an undo that leaves each of them as it was."""

from __future__ import annotations

import grpc
import pytest

from tests.cli.shell import Shell
from tests.conftest import Server
from tests.e2e.test_cities import ALL, UPDATER, Raw, cities
from tests.runs.undoing import entities


def undone(shell: Shell, server: Server, count: int) -> None:
    some = cities(count)
    with grpc.insecure_channel(server.host) as channel:
        raw = Raw(server, channel)
        raw.load(some)
        before = entities(server)
        assert shell.bulkup("run", UPDATER, timeout_s=900).code == 0
        assert raw.wrong(some) == []
    (run_id,) = shell.runs()
    result = shell.bulkup("undo", run_id, "--json", timeout_s=900)
    assert result.code == 0, result
    assert result.summary["counts"]["written"] == count
    assert entities(server) == before


@pytest.mark.client_side
def test_some_of_the_cities_are_what_they_were(shell: Shell, server: Server) -> None:
    undone(shell, server, 1_200)


@pytest.mark.slow
@pytest.mark.client_side
@pytest.mark.timeout(2400)
# LF looks through the whole kind for each page and each change of it, which takes it half an hour.
@pytest.mark.parametrize("server", ["EM", "FS"], indirect=True)
def test_all_cities_are_what_they_were(shell: Shell, server: Server) -> None:
    undone(shell, server, ALL)
