"""Several processes share a run that is cut into ranges, are killed, and suspended for longer than
their leases. Repeat a fight by its seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos import child
from tests.chaos.bench import UPDATERS, World
from tests.chaos.conftest import MakeWorld
from tests.chaos.fighters import FINISHED, Fight, Fighter, fight
from tests.conftest import Server

POISON = {4: "raises", 55: "long string", 131: "raises", 202: "bad name"}
"""Entities that fail, by id."""


def _fighters(world: World, tmp_path: Path, count: int, slowly_s: float) -> list[Fighter]:
    args = [
        "run", f"{UPDATERS}:Slow", "--project", world.server.project, "--yes", "--ranges", "12",
        "--batch-size", "4", "--max-failures", "-1", "--quiet",
        "--once",  # one that is killed when it has just finished the run does not do it again
    ]  # fmt: skip
    return [
        Fighter(args, world.server.host, tmp_path / f"place-{n}", slowly_s) for n in range(count)
    ]


def _fight(
    world: World, tmp_path: Path, seed: int, *, slowly_s: float, most_events: int = 10_000
) -> Fight:
    fighters = _fighters(world, tmp_path, 3, slowly_s)
    done = fight(fighters, seed, most_events=most_events)
    story = f"seed {seed}: {done}, {[f.codes for f in fighters]}"
    story += "".join(f"\n--- {f.output()[-2000:]}" for f in fighters)
    expected = [f"thing {id_} has n = 0" for id_ in POISON if id_ <= world.size]
    assert world.violations() == expected, story
    codes = {code for f in fighters for code in f.codes}
    assert codes <= {-9, 3, 10, 11}, story
    _names_each_failure_once(world, fighters, story)
    world.clear_old_markers()
    assert world.markers() == [], story
    for kind in ("BulkupClaim", "BulkupRange"):
        assert list(world.client.query(kind=kind).fetch()) == [], story
    print(story)
    return done


def _names_each_failure_once(world: World, fighters: list[Fighter], story: str) -> None:
    expected = sorted(f"Key('Thing', {id_})" for id_ in POISON if id_ <= world.size)
    reports = 0
    for fighter in fighters:
        # `--once`: what was killed may have found the run finished by others when it came back.
        told = fighter.output().count("is already done as")
        if sum(code in FINISHED for code in fighter.codes) <= told:
            continue
        runs = list((fighter.folder / "state").glob("*/checkpoint.sqlite"))
        if not runs:
            continue
        (run,) = runs
        shown = child.bulkup(
            ["show", run.parent.name, "--failed-keys", "--json", "--state-dir",
             str(fighter.folder / "state")],
            emulator=world.server.host, folder=fighter.folder / "show",
        )  # fmt: skip
        lines = [json.loads(line) for line in shown.output.splitlines() if line.startswith("{")]
        keys = sorted(str(line["key"]) for line in lines if "key" in line)
        assert keys == expected, f"{shown.output}\n{story}"
        reports += 1
    assert reports, story


def test_processes_that_are_killed_share_a_run(
    embedded: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(embedded, 260, poison=POISON.get)
    done = _fight(world, tmp_path, 1, slowly_s=0.01, most_events=4)
    assert done.events > 2


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_three_processes_fight_for_ranges(
    server: Server, make_world: MakeWorld, tmp_path: Path, seed: int
) -> None:
    world = make_world(server, 1500, poison=POISON.get)
    done = _fight(world, tmp_path, seed, slowly_s=0.03, most_events=45)
    assert done.events >= 30, done
    assert done.suspensions >= 5, done
    assert done.lost >= 5, done


def test_two_processes_that_plan_at_once_share_one_plan(
    embedded: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(embedded, 400)
    processes = [
        child.start(
            ["run", f"{UPDATERS}:Increment", "--project", world.server.project, "--yes", "--once",
             "--batch-size", "4", "--quiet", "--ranges", ranges, "--state-dir",
             str(tmp_path / ranges)],
            emulator=world.server.host, folder=tmp_path / f"out-{ranges}",
        )
        for ranges in ("3", "9")
    ]  # fmt: skip
    ended = []
    for process, folder in processes:
        process.join(child.CHILD_TIMEOUT_S)
        ended.append(child.outcome(process, folder))
    assert [one.code for one in ended] == [0, 0], ended
    assert world.violations() == [], ended
    (record,) = world.client.query(kind="BulkupRun").fetch()
    plan = json.loads(record["ranges"])["plan"]
    ranges = [one.key.name for one in world.client.query(kind="BulkupRange").fetch()]
    assert ranges, ended
    assert all(f"~{plan}-" in name for name in ranges), ranges
