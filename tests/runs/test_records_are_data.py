"""What somebody else wrote into bulkup's records gives it no orders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

from bulkup.core.errors import Exit, StateError
from bulkup.engine.options import Options
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.kinds import CLAIM_KIND, MARKER_KIND, RUN_KIND
from bulkup.state.record import Holder
from tests.chaos.bench import UPDATERS, World
from tests.chaos.conftest import make_world
from tests.cli.shell import Shell, seed
from tests.conftest import Server
from tests.runs.test_chain import trails, write_chain

__all__ = ["make_world"]

pytestmark = pytest.mark.client_side

FAR = Holder("r1", "ann@far", "far/boot", 77, "1")

SOME = Options(batch_size=4, limit=4)


@pytest.fixture
def world(server: Server, make_world: Callable[..., World]) -> World:
    """A run is unfinished, and the state directory is lost."""
    world = make_world(server, 8)
    assert world.run("Increment", SOME).exit_code is Exit.LIMIT
    shutil.rmtree(world.state_dir)
    return world


def _change(client: datastore.Client, kind: str, **properties: Any) -> datastore.Entity:
    (entity,) = client.query(kind=kind).fetch()
    entity.update(properties)
    client.put(entity)
    return entity


def _change_run_info(world: World, **values: Any) -> datastore.Entity:
    (entity,) = world.client.query(kind=RUN_KIND).fetch()
    return _change(
        world.client, RUN_KIND, record=json.dumps({**json.loads(entity["record"]), **values})
    )


@pytest.mark.one_in(3)
@pytest.mark.parametrize("run_id", ["../outside", "/tmp/outside", "a/b", "..", "~1", "x\n", 7])
def test_no_record_makes_a_folder_outside_the_state_directory(
    world: World, tmp_path: Path, run_id: Any
) -> None:
    record = _change_run_info(world, run_id=run_id)
    copy = datastore.Entity(world.client.key(RUN_KIND, str(run_id)))
    copy.update(record)
    copy.exclude_from_indexes.update(record.exclude_from_indexes)
    world.client.put(copy)
    _change(world.client, CLAIM_KIND, run=run_id)
    with pytest.raises(StateError):
        world.run("Increment", SOME)
    assert list(tmp_path.rglob("*")) == []
    assert not Path("/tmp/outside").exists()


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": "another"},
        {"created": "yesterday"},
        {"params": {"a": 1}},
        {"params": [1]},
        {"spec": None},
        {"identity": 5},
        {"target": {"project": 1}},
        {"target": None},
    ],
    ids=str,
)
def test_a_record_that_is_not_ours_is_named_and_not_followed(
    world: World, changes: dict[str, Any]
) -> None:
    _change_run_info(world, **changes)
    with pytest.raises(StateError, match="the run record"):
        world.run("Increment", SOME)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "properties",
    [
        {"holder": json.dumps({**asdict(FAR), "pid": "../x"})},
        {"holder": json.dumps({**asdict(FAR), "pid": -1})},
        {"holder": json.dumps({**asdict(FAR), "machine": None})},
        {"counts": json.dumps({"handled": "many"})},
        {"chain": json.dumps([1])},
        {"shards": json.dumps([["x", "", "", "", ""]])},
        {"generation": "x"},
    ],
    ids=str,
)
def test_a_record_with_values_of_another_type_is_named_and_not_followed(
    world: World, properties: dict[str, Any]
) -> None:
    _change(world.client, RUN_KIND, **properties)
    with pytest.raises(StateError, match="the run record"):
        world.run("Increment", SOME)


def test_a_claim_that_names_a_run_of_other_work_is_not_believed(world: World) -> None:
    other = world.run("IncrementWithChild", SOME)
    for claim in world.client.query(kind=CLAIM_KIND).fetch():
        if claim["run"] != other.run_id:
            claim["run"] = other.run_id
            world.client.put(claim)
    with pytest.raises(StateError, match="record says otherwise"):
        world.run("Increment", SOME)


def test_a_marker_that_is_not_ours_is_named(world: World) -> None:
    marker = next(iter(world.client.query(kind=MARKER_KIND).fetch()))
    marker["facts"] = "{}"
    world.client.put(marker)
    report = world.run("Increment", SOME)
    assert report.exit_code is Exit.FAILED
    assert "the marker" in (report.reason or "")


def test_resume_loads_what_the_command_named_and_not_what_the_record_says(
    world: World, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    _change_run_info(world, spec=f"{evil}:Increment", source_path=str(evil))
    assert world.run("Increment", Options(batch_size=4, limit=1)).exit_code is Exit.LIMIT
    with closing(Checkpoint.open(world.folder)) as checkpoint:
        assert checkpoint.run_info.spec == f"{UPDATERS}:Increment"
        assert checkpoint.run_info.source_path == str(UPDATERS)
    assert world.resume(Options(batch_size=4)).success
    assert not (tmp_path / "imported").exists()
    assert world.violations() == []


def test_a_records_chain_does_not_load_a_file_that_the_updater_does_not_name(
    tmp_path: Path, embedded: Server
) -> None:
    shell = Shell(tmp_path, embedded)
    write_chain(shell)
    shell.write("evil.py", "open('imported', 'w')\n")
    client = seed(embedded, 12)
    assert shell.bulkup("run", "a.py", "--batch-size", "3", env={"DIE_AT": "b"}).code == -9
    (record,) = [r for r in client.query(kind=RUN_KIND).fetch() if r["open"]]
    links = record["chain"]
    record["chain"] = json.dumps(["./evil.py"])
    client.put(record)
    refused = shell.bulkup("run", "a.py")
    assert refused.code == Exit.USAGE, refused
    assert "./evil.py" in refused.err
    assert not (tmp_path / "imported").exists()
    record["chain"] = links
    client.put(record)
    assert shell.bulkup("run", "a.py").code == 0
    assert trails(client) == {"abc"}
