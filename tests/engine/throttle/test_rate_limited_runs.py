"""The rate limit in a real run: what is sent, what is shown, what the next runner takes over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.events import Event, Progress
from bulkup.core.model import TargetInfo
from bulkup.state.kinds import RUN_KIND
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill
from tests.engine.test_shards import shards_of

pytestmark = pytest.mark.client_side


@bulkup.updater(kind="Thing")
def count(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


@bulkup.updater(kind="Thing")
def four_children(entity: Entity) -> list[Entity]:
    from google.cloud.datastore import Key

    key = entity.key
    return [Entity(Key("Child", i, parent=key)) for i in range(1, 5)]


class Seen:
    def __init__(self) -> None:
        self.progress: list[Progress] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress.append(event)


@pytest.fixture
def as_if_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run takes the emulator for the service: it ramps up, and cuts the query by itself."""
    monkeypatch.setattr(TargetInfo, "is_real", True)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_rate_is_never_exceeded_and_is_shown(server: Server, run: Run, shards: int) -> None:
    client = fill(server, "Thing", 120, n=0)
    seen = Seen()
    report = run(server, count, max_rate=60, batch_size=20, shards=shards, listener=seen)
    assert report.counts.handled == 120
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 120
    assert all(p.counts.handled <= 60 * p.elapsed_s + 1 for p in seen.progress)
    assert any("at most 60/s (--max-rate)" in (p.rate_limit or "") for p in seen.progress)


def test_writes_count_where_there_are_more_than_entities(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 50)
    seen = Seen()
    report = run(embedded, four_children, max_rate=100, batch_size=10, listener=seen)
    assert report.counts.puts == 200
    # The last batch may go ahead of what its own writes cost; all before it have paid.
    assert report.elapsed_s >= (200 - 40) / 100


def test_there_is_no_limit_on_an_emulator(server: Server, run: Run) -> None:
    fill(server, "Thing", 30, n=0)
    seen = Seen()
    assert run(server, count, listener=seen).success
    assert {p.rate_limit for p in seen.progress} == {None}


def test_the_ramp_is_kept_in_the_run_record_and_continued(
    embedded: Server, run: Run, as_if_real: None, tmp_path: Path
) -> None:
    client = fill(embedded, "Thing", 700, n=0)
    seen = Seen()
    first = run(embedded, count, limit=300, listener=seen, shards=1)
    assert not first.success
    assert any("ramp-up 500/s" in (p.rate_limit or "") for p in seen.progress)
    (run_info,) = client.query(kind=RUN_KIND).fetch()
    rate, used_at, _ = json.loads(run_info["warm"])
    assert rate == 500
    # A predecessor that had come as far as 1,687/s a moment ago.
    run_info["warm"] = json.dumps([1687.5, used_at, 0.0])
    client.put(run_info)
    seen = Seen()
    second = run(embedded, count, listener=seen, shards=1)
    assert second.run_id == first.run_id
    assert second.success
    assert any("ramp-up 1,688/s" in (p.rate_limit or "") for p in seen.progress)


def test_on_a_real_project_the_query_is_cut_unless_told_otherwise(
    embedded: Server, run: Run, as_if_real: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkup.engine.splits.MIN_PROBED_ENTITIES", 1)
    fill(embedded, "Thing", 600, n=0)
    assert run(embedded, count, max_rate="off", state_dir=tmp_path / "a").counts.handled == 600
    assert len(shards_of(tmp_path / "a")) > 2
    one: dict[str, Any] = {"shards": 1, "max_rate": "off", "state_dir": tmp_path / "b"}
    assert run(embedded, count, **one).counts.handled == 600
    assert len(shards_of(tmp_path / "b")) == 1
