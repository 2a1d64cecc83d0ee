"""Fixtures of the chaos tests. Tests marked `chaos` are the nightly form: `pytest -m chaos`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulkup.runs import acquire
from tests.chaos.bench import World, dead_holder
from tests.chaos.proxy import proxy_to
from tests.conftest import Server

MakeWorld = Callable[..., World]

STRIDES = pytest.mark.parametrize(
    "stride",
    [
        pytest.param(9, id="some"),
        pytest.param(1, id="every", marks=(pytest.mark.chaos, pytest.mark.timeout(1800))),
    ],
)
"""For sweeps over every call or event: some of them daily, all of them nightly."""


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorld]:
    """Make a world on a server, with its own project, proxy and state directory."""
    monkeypatch.setattr(acquire, "this_process", dead_holder)
    with ExitStack() as stack:

        def make(server: Server, size: int = 40, *, fill: bool = True, **properties: Any) -> World:
            # One test may make several worlds; they share nothing but the server.
            server = replace(server, project=f"t-{uuid.uuid4().hex[:12]}")
            proxy = stack.enter_context(proxy_to(server.host))
            client = server.client()
            stack.callback(client.close)
            state_dir = tmp_path / f"state-{uuid.uuid4().hex[:6]}"
            world = World(server, proxy, state_dir, size, client)
            if fill:
                world.fill(**properties)
            return world

        yield make
