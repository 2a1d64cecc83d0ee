"""A rewind puts back entities of every value type, bit for bit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkup.core.events import Report
from bulkup.core.moment import parse_time
from bulkup.engine.compare.comparison import Scope
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.rewind import RewindOptions, compare_times, prepare_rewind
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions, open_target
from bulkup.state.restore_list import Restores
from tests.cli.shell import user_data
from tests.conftest import Server
from tests.engine.compare.test_comparison import pairs, stored
from tests.examples import examples
from tests.local.differential.build import Place
from tests.local.differential.wire import Wire


@pytest.fixture(params=["EM", "FS"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the servers that keep their past."""
    found: Server = request.getfixturevalue({"EM": "embedded", "FS": "fs"}[request.param])
    return found


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = Wire(server.name, server.host)
    yield wire
    wire.close()


def rewind(server: Server, to: str, kinds: set[str], folder: Path) -> Report | None:
    """Rewind everything; None: there is nothing to write."""
    where = TargetOptions(server.project)
    options = RewindOptions(parse_time(to), Scope(tuple(kinds)), deletes_new=True)
    context = RunContext(Options(), folder, lambda event: None)
    with closing(Restores()) as restores:
        with open_target(where) as target:
            found = compare_times(target, options, restores=restores)
        if not found.report.writes:
            return None
        with prepare_rewind(options, found.report, restores, where, context) as prepared:
            return start(prepared)


@settings(examples(20), suppress_health_check=list(HealthCheck))  # each example is stored anew
@given(data=st.data())
def test_generated_entities_of_every_type_are_put_back_bit_for_bit(
    server: Server, wire: Wire, data: st.DataObject
) -> None:
    one, other = data.draw(pairs())
    place = Place(server.project)

    def contents() -> dict[bytes, bytes]:
        return {key: raw for key, (_, raw) in user_data(server).items()}

    kinds: set[Any] = {path[-1][0] for path in stored(wire, place, one)}
    before, then = contents(), datetime.now(timezone.utc).isoformat()
    kinds |= {path[-1][0] for path in stored(wire, place, other)}
    after = contents()
    with (
        mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=server.host),
        tempfile.TemporaryDirectory() as folder,
    ):
        report = rewind(server, then, kinds, Path(folder))
    assert contents() == before
    assert (report is None) == (before == after)
    assert report is None or not report.counts.failed
