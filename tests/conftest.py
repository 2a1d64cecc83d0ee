"""Fixtures that every test may use: real servers, and a Datastore of one's own on them."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from zlib import crc32

import pytest
from google.cloud import datastore

from tests import examples
from tests.browser import browser, browser_context, browser_page  # noqa: F401 - fixtures
from tests.cli import nursery
from tests.costs import (  # noqa: F401 - hooks of pytest
    pytest_addoption,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    show,
)
from tests.emulators import require
from tests.shared_servers import LIFE, NIGHT, OWN, Keeper, lent_host

# The tests start hundreds of Python processes; compiling the package anew is a fifth of a start,
# and compiling the tests anew is half of what each worker of pytest does before its first test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
nursery.install()

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Run in the background of a shell: Ctrl-C would be ignored here and in every process that the
    # tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Server:
    """A running Datastore server, and a project on it that no other test uses."""

    name: str
    host: str
    project: str

    def client(self, **options: str) -> datastore.Client:
        """The official client, pointed here whatever the environment says."""
        with mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=self.host):
            return datastore.Client(project=self.project, **options)


def is_nightly(config: pytest.Config) -> bool:
    """Whether this is `pytest -m chaos`, or says so in other words."""
    return examples.is_nightly(config.option.markexpr)


def _import_my_share_first(config: pytest.Config) -> None:
    """In a worker of xdist that collects all: import the test modules, from another one on than the
    other workers do. After a change each of them is so compiled by one worker and not by all."""
    here = Path(__file__).parent
    worker = getattr(config, "workerinput", None)
    if worker is None or config.args != config.getini("testpaths"):
        return
    modules = sorted(here.rglob("test_*.py"))
    number = int(worker["workerid"].removeprefix("gw"))
    first = number * len(modules) // worker["workercount"]
    for path in modules[first:] + modules[:first]:
        with suppress(pytest.skip.Exception):  # what it needs is not installed
            importlib.import_module(".".join(path.relative_to(here.parent).with_suffix("").parts))


EMULATORS = ("LF", "FS")
"""What a test of the client alone asks every night, and not every day."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """What collection makes stays to the end: looking for garbage in it is a fifth of its time."""
    gc.disable()
    try:
        _import_my_share_first(session.config)
        yield
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """What is also, or only, for the night: before pytest looks at `-m`."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        asks_emulator = any(value in EMULATORS for value in parameters.values())
        if asks_emulator and item.get_closest_marker("client_side"):
            item.add_marker(pytest.mark.chaos)
        # The generated tests run again at night, with all of their examples.
        if is_nightly(config) and getattr(item.obj, "is_hypothesis_test", False):
            item.add_marker(pytest.mark.chaos)
        if _is_left_out(config, item):
            item.add_marker(pytest.mark.chaos)
    functions: dict[str, list[pytest.Function]] = {}
    for item in items:
        functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in functions.values():
        _leave_to_the_night(cases)


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_long_tests_first(config: pytest.Config, items: list[pytest.Function]) -> None:
    """The tests of many minutes begin at once, each worker with its share: what begins last, on its
    own, would keep the others waiting. Those of one emulator come after each other."""
    usual_s = float(config.getini("timeout"))
    long = [item for item in items if _timeout_s(item) > usual_s]
    long.sort(key=lambda item: [name in item.name for name in EMULATORS])
    others = [item for item in items if _timeout_s(item) <= usual_s]
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    per_worker = -(-len(items) // workers)  # xdist gives each worker as many in a row
    items.clear()
    for worker in range(workers):
        share = long[worker * len(long) // workers : (worker + 1) * len(long) // workers]
        room = per_worker - len(share)
        items += share + others[:room]
        del others[:room]


def _timeout_s(item: pytest.Function) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


def _is_left_out(config: pytest.Config, item: pytest.Function) -> bool:
    """Of the files marked `sampled(n)`, plain `pytest` runs every nth test, and the night the rest.
    Who names a file or a folder gets all of it.

    A checksum of its name chooses a test, so that a new one changes nothing for the others.
    """
    mark = item.get_closest_marker("sampled")
    is_plain = config.args == config.getini("testpaths")
    return mark is not None and is_plain and bool(crc32(item.nodeid.encode()) % mark.args[0])


def _leave_to_the_night(cases: list[pytest.Function]) -> None:
    """All cases of a test marked `one_in(n)` but every nth, counted along each of its parameters.

    Of servers A, B, C and codes 1, 2, 3, with n = 3, that leaves A1, B3 and C2 for every day: each
    value of each parameter.
    """
    mark = cases[0].get_closest_marker("one_in")
    if mark is None:
        return
    (n,) = mark.args
    in_order = sorted(cases, key=lambda case: max(case.callspec.indices.values()))
    places: dict[tuple[int, ...], str] = {}  # those of parameters that always change together: once
    for name in in_order[0].callspec.params:
        given = [case.callspec.params[name] for case in in_order]
        places[tuple(given.index(value) for value in given)] = name
    for number, case in enumerate(in_order):
        steps = [sorted(set(column)).index(column[number]) for column in places]
        if sum(steps) % n:
            case.add_marker(pytest.mark.chaos)


KEEPER = pytest.StashKey[Keeper]()
KEEPER_PORT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    examples.load_profile(nightly=is_nightly(config))
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        config.stash[KEEPER_PORT] = worker_input["keeper_port"]
        return
    keeper = Keeper()
    config.stash[KEEPER] = keeper
    config.stash[KEEPER_PORT] = keeper.port
    config.add_cleanup(keeper.close)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.option.costs:
        show(terminalreporter, config.stash[KEEPER].pid)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist where the servers are."""
    node.workerinput["keeper_port"] = node.config.stash[KEEPER_PORT]


def _host(request: pytest.FixtureRequest, name: str, weight: int = 1) -> Iterator[str]:
    if name != "EM":
        require()
    with lent_host(name, request.config.stash[KEEPER_PORT], weight) as host:
        yield host


@pytest.fixture(scope="session")
def lf_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """One for all tests that ask for this. It becomes slow; `lf` is replaced in time."""
    yield from _host(request, "LF")


@pytest.fixture(scope="session")
def fs_host(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _host(request, "FS")


@pytest.fixture(scope="session")
def em_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """The embedded Datastore, in memory."""
    yield from _host(request, "EM")


@pytest.fixture
def lent_lf_host(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _host(request, "LF", _weight(request))


@pytest.fixture
def lent_l_host(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _host(request, "L", _weight(request))


def _weight(request: pytest.FixtureRequest) -> int:
    if _timeout_s(request.node) > float(request.config.getini("timeout")):
        return OWN
    marks = {mark.name for mark in request.node.iter_markers()}
    return NIGHT if marks & {"chaos", "slow"} else 1


def _server(request: pytest.FixtureRequest, name: str) -> Server:
    lent = "lent_" if name in LIFE else ""
    host = request.getfixturevalue(f"{lent}{name.lower()}_host")
    return Server(name, host, f"t-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def lf(request: pytest.FixtureRequest) -> Server:
    return _server(request, "LF")


@pytest.fixture
def fs(request: pytest.FixtureRequest) -> Server:
    return _server(request, "FS")


@pytest.fixture
def legacy(request: pytest.FixtureRequest) -> Server:
    return _server(request, "L")


@pytest.fixture
def embedded(request: pytest.FixtureRequest) -> Server:
    return _server(request, "EM")


@pytest.fixture(params=["EM", "LF", "FS"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each test that asks for this runs once on every everyday server; one that is marked
    `client_side` every day on the embedded Datastore, and at night on the others too."""
    return _server(request, request.param)
