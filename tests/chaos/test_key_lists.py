"""Runs on random lists of keys, killed at random calls: each key is handled once, and no other."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

from bulkup.core.errors import NotFoundError
from bulkup.core.events import Report
from bulkup.datastore.keys import key_bytes, key_to_pb
from bulkup.engine.options import Options
from bulkup.runs.key_input import KeySource, keys_from_file
from bulkup.state.key_list import KEYS_NAME, KeyList
from tests.chaos.bench import Crash, OnSend, World
from tests.chaos.conftest import MakeWorld
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

MOST_CALLS = 40


class Killed:
    """`on_send` of a runner that is killed at a random call, or lives."""

    def __init__(self, rng: random.Random) -> None:
        self._at = rng.randint(1, MOST_CALLS)

    def __call__(self, number: int, label: str) -> None:
        if number == self._at:
            raise Crash


def until_finished(rng: random.Random, world: World, updater: str, **more: Any) -> Report:
    """Run, and after each kill resume: here, or with the state lost, or with a part of it."""
    options = Options(
        batch_size=rng.choice([1, 2, 5, 500]),
        shards=rng.choice([1, 1, 3]),
        in_flight=rng.choice([None, 1, 3]),
    )
    kills: list[OnSend | None] = [Killed(rng) for _ in range(rng.randint(0, 4))]
    for on_send in (*kills, None):
        lost = rng.choice(["nothing", "nothing", "keys", "all"])
        if world.has_run() and lost == "keys":
            (world.folder / KEYS_NAME).unlink(missing_ok=True)
        elif lost == "all":
            shutil.rmtree(world.state_dir, ignore_errors=True)
        try:
            has_keys = world.has_run() and (world.folder / KEYS_NAME).exists()
            if lost == "nothing" and has_keys and rng.random() < 0.5:
                try:
                    return world.resume(options, on_send=on_send)
                except NotFoundError:
                    pass  # it had not begun
            return world.run(updater, options, on_send=on_send, **more)
        except Crash:
            continue
    raise AssertionError("the last runner was not killed")


def chosen(rng: random.Random, world: World) -> list[int]:
    """Ids of some things, and of some that are not there, some of them twice."""
    ids = [*range(1, world.size + 1), *range(10_001, 10_001 + rng.randint(0, world.size))]
    some = rng.sample(ids, rng.randint(1, len(ids)))
    some += rng.choices(some, k=rng.randint(0, 3))
    rng.shuffle(some)
    return some


def written(id_: int, rng: random.Random) -> str:
    return rng.choice(
        [
            f"Key('Thing', {id_})",
            f'{{"typed_key": {{"path": [["Thing", {id_}]], "namespace": ""}}, "n": 1}}',
            f'{{"path": [["Thing", {id_}]]}}',
            f"\"Key('Thing', {id_})\"",
        ]
    )


SEEDS = [
    *range(3),
    *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(3, 40)),
]


@pytest.mark.parametrize("seed", SEEDS)
def test_generated_lists_are_handled_once_wherever_the_run_is_killed(
    server: Server, make_world: MakeWorld, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    world = make_world(server, rng.randint(1, 60))
    ids = chosen(rng, world)
    file = tmp_path / "keys.txt"
    file.write_text("\n".join(written(id_, rng) for id_ in ids) + "\n")
    report = until_finished(rng, world, "Increment", keys=keys_from_file(str(file)))
    assert report.success
    there = {id_ for id_ in ids if id_ <= world.size}
    assert report.counts.handled == len({*ids})
    assert report.counts.written == len(there)
    assert report.counts.vanished == len({*ids} - there)
    assert {id_ for id_, thing in world.things().items() if thing["n"] == 1} == there
    assert {thing["n"] for thing in world.things().values()} <= {0, 1}
    world.clear_old_markers()
    assert world.markers() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_generated_lists_make_what_is_not_there_once(
    server: Server, make_world: MakeWorld, seed: int
) -> None:
    rng = random.Random(seed)
    world = make_world(server, rng.randint(1, 30))
    ids = chosen(rng, world)
    report = until_finished(rng, world, "Ensure", keys=absent_too(world, ids))
    assert report.success
    assert (report.counts.written, report.counts.vanished) == (len({*ids}), 0)
    things = {id_: thing["n"] for id_, thing in world.things().items()}
    assert things == {id_: int(id_ in ids) for id_ in {*range(1, world.size + 1), *ids}}


def absent_too(world: World, ids: list[int]) -> KeySource:
    keys = [key_bytes(key_to_pb(world.client.key("Thing", id_))) for id_ in ids]
    return KeySource(lambda query, target: KeyList.of(keys, "a test", absent=True))


def test_an_insert_loses_none_of_what_somebody_creates_meanwhile(
    server: Server, make_world: MakeWorld
) -> None:
    world = make_world(server, 2)

    def create(number: int, label: str) -> None:
        if label.startswith("Commit") and world.client.get(key) is None:
            thing = datastore.Entity(key)
            thing["n"] = 10
            world.client.put(thing)

    key = world.client.key("Thing", 3)
    keys = absent_too(world, [1, 3])
    report = world.run("Ensure", Options(), keys=keys, on_send=create)
    assert {id_: thing["n"] for id_, thing in world.things().items()} == {1: 1, 2: 0, 3: 11}
    assert report.counts.written == 2


@pytest.mark.parametrize("absent", [False, True], ids=["vanishes", "is made again"])
def test_what_somebody_deletes_meanwhile(
    server: Server, make_world: MakeWorld, absent: bool
) -> None:
    world = make_world(server, 2)
    waiting = [world.client.key("Thing", 1)]

    def delete(number: int, label: str) -> None:
        if label == "Commit" and waiting:
            world.client.delete(waiting.pop())

    keys = [key_bytes(key_to_pb(world.client.key("Thing", id_))) for id_ in (1, 2)]
    source = KeySource(lambda query, target: KeyList.of(keys, "a test", absent=absent))
    report = world.run("Ensure", Options(), keys=source, on_send=delete)
    assert not waiting
    wanted = {1: 1, 2: 1} if absent else {2: 1}
    assert {id_: thing["n"] for id_, thing in world.things().items()} == wanted
    assert report.counts.vanished == int(not absent)
