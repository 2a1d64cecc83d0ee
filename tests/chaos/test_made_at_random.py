"""Handlers that make, rename, overwrite and delete entities of the queried kind at random, in runs
that are stopped at random and lose their state where they may."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from google.cloud.datastore import Entity, Key

from bulkup import Updater
from bulkup.engine import splits
from tests.conftest import Server
from tests.engine.conftest import Run, fill

# The fixture `run`, for tests of this folder.
from tests.engine.conftest import run as run

THINGS = 60
BEHIND = 1_000_000
DELETES_AHEAD = 30
"""Every third thing that is handled so deletes the one this much behind it."""

MADE = {"own": 0, "copy": 1, "behind": 1, "name": 1, "rename": 1, "child": 1, "many": 5, "ahead": 0}
"""What a handler does, and how many entities it makes."""


class AtRandom(Updater):
    seed = 0
    keys_only = False

    def get_query(self) -> Any:
        query = self.client.query(kind="Thing")
        if self.keys_only:
            query.keys_only()
        return query

    def handle_entity(self, entity: Entity) -> None:
        if self.keys_only:
            entity = self.client.get(entity.key)
            if entity is None:
                return
        if entity.get("by"):
            raise AssertionError(f"met {entity.key}, which the run has made")
        number, key = entity.key.id, self.client.key
        does = action(self.seed, number)

        def make(*path: Any) -> None:
            self.put(made_by(number, key(*path)))

        if does in ("copy", "many"):
            for _ in range(MADE[does]):
                make("Thing")
        elif does in ("behind", "rename"):
            make("Thing", number + BEHIND)
        elif does == "name":
            make("Thing", f"a{number}")
        elif does == "child":
            make("Thing", number, "Thing", 1)
        elif does == "ahead" and number % 3 == 0:
            self.delete(key("Thing", number + DELETES_AHEAD))
        if does == "rename":
            self.delete(entity.key)
        else:
            entity["times"] += 1
            self.put(entity)


def action(seed: int, number: int) -> str:
    return random.Random(f"{seed}/{number}").choice([*MADE])


def made_by(number: int, key: Key) -> Entity:
    made = Entity(key)
    made["by"] = number
    return made


SEEDS = [
    pytest.param(seed, marks=[] if seed == 3 else pytest.mark.chaos, id=str(seed))
    for seed in range(16)
]


@pytest.mark.client_side
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_handles_what_it_found_once_and_nothing_that_it_made(
    server: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    client = fill(server, "Thing", THINGS, times=0)
    monkeypatch.setattr(AtRandom, "seed", seed)
    monkeypatch.setattr(AtRandom, "keys_only", seed % 4 == 3)
    may_lose = server.name == "FS" or (server.name == "EM" and not AtRandom.keys_only)
    story = []
    with patch.object(splits, "MIN_PROBED_ENTITIES", 1):
        while True:
            options = {
                "batch_size": rng.choice([1, 3, 8, 50]),
                "shards": rng.choice([1, 3]),
                "limit": rng.choice([7, 20, None]),
            }
            story.append(options)
            report = run(server, AtRandom, **options)
            if options["limit"] is None or report.success:
                break
            if may_lose and rng.random() < 0.5:
                shutil.rmtree(tmp_path / "state")
    assert report.success, (report.reason, story)
    things = list(client.query(kind="Thing").fetch())
    found = {thing.key.id: thing["times"] for thing in things if "by" not in thing}
    for number in range(1, THINGS + 1):
        does = action(seed, number)
        made = sum(thing.get("by") == number for thing in things)
        if made == MADE[does] and found.get(number) == (None if does == "rename" else 1):
            continue
        by = number - DELETES_AHEAD
        is_deleted = by > 0 and by % 3 == 0 and action(seed, by) == "ahead"
        assert is_deleted, (number, does, made, found.get(number), story)
        assert number not in found, (number, does, story)
        assert made in (0, MADE[does]), (number, does, made, story)
