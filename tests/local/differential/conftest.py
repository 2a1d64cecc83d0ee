"""The servers that are compared, one of each for the whole test run."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.local.differential.build import Place
from tests.local.differential.compare import Judge
from tests.local.differential.differences import DIFFERENCES
from tests.local.differential.wire import Wire


@pytest.fixture(scope="session")
def embedded(embedded_host: str) -> Iterator[Wire]:
    wire = Wire("embedded", embedded_host)
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def fs_wire(fs_host: str) -> Iterator[Wire]:
    wire = Wire("FS", fs_host)
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def lf_wire(lf_host: str) -> Iterator[Wire]:
    wire = Wire("LF", lf_host)
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def beside_fs(embedded: Wire, fs_wire: Wire) -> Judge:
    return Judge(embedded, fs_wire, DIFFERENCES)


@pytest.fixture(scope="session")
def beside_lf(embedded: Wire, lf_wire: Wire) -> Judge:
    return Judge(embedded, lf_wire, DIFFERENCES)


@pytest.fixture(scope="session")
def fresh() -> Callable[[], Place]:
    """Each call gives a place of its own, on every server."""
    project = f"d-{uuid.uuid4().hex[:12]}"
    numbers = itertools.count(1)
    return lambda: Place(project, f"n{next(numbers)}")
