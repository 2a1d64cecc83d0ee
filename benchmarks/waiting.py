"""Handlers that wait: an `async def handle_entity` that waits 100 ms for each entity, 32 at once.

Each row runs on an in-memory embedded Datastore. Its floor is measured right after it in the same
process: the same waits in bare asyncio, as many at once. So a busy machine slows down both.

    python -m benchmarks.waiting [--entities 3200] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bulkup
from bulkup import Updater
from bulkup.local.process import start_local

AT_ONCE = 32
WAIT_S = 0.1
SHARE = 0.9
"""Of the floor's entities a second."""


def evenly(number: int) -> float:
    return WAIT_S


def unevenly(number: int) -> float:
    """50 to 150 ms, the same for each entity in both."""
    return WAIT_S * (0.5 + random.Random(number).random())


class Waits(Updater):
    concurrency = AT_ONCE
    wait_s: Callable[[int], float] = staticmethod(evenly)

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    async def handle_entity(self, entity: Any) -> None:
        await asyncio.sleep(self.wait_s(entity.key.id))
        entity["n"] += 1
        self.put(entity)


class WaitsUnevenly(Waits):
    wait_s = staticmethod(unevenly)


@dataclass(frozen=True)
class Row:
    name: str
    per_second: float
    floor_per_second: float

    @property
    def share(self) -> float:
        return self.per_second / self.floor_per_second

    @property
    def passed(self) -> bool:
        return self.share >= SHARE


async def floor(entities: int, wait_s: Callable[[int], float]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def wait(number: int) -> None:
        async with room:
            await asyncio.sleep(wait_s(number))

    await asyncio.gather(*map(wait, range(1, entities + 1)))


def measured(
    name: str, updater: type[Waits], entities: int, project: str = "waiting", **options: Any
) -> Row:
    with tempfile.TemporaryDirectory() as state:
        began = time.monotonic()
        report = bulkup.run(updater, project=project, state_dir=state, **options)
        took_s = time.monotonic() - began
    assert (report.reason, report.counts.puts) == ("", entities), report
    began = time.monotonic()
    asyncio.run(floor(entities, updater.wait_s))
    floor_s = time.monotonic() - began
    return Row(name, entities / took_s, entities / floor_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=3_200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with start_local(None) as server:
        os.environ["DATASTORE_EMULATOR_HOST"] = server.host
        fill("warm-up", 1)
        measured("imports all there is", Waits, 1, project="warm-up")
        fill("waiting", args.entities)
        rows = [
            measured("100 ms each", Waits, args.entities),
            measured("50 to 150 ms", WaitsUnevenly, args.entities),
            measured("100 ms each, 4 shards", Waits, args.entities, shards=4),
        ]
    for row in rows:
        print(
            f"{row.name:<24} {row.per_second:6.0f} entities/s, floor {row.floor_per_second:.0f}: "
            f"{row.share:.1%}  {'PASS' if row.passed else 'FAIL'}: at least {SHARE:.0%}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def fill(project: str, entities: int) -> None:
    from google.cloud import datastore

    client = datastore.Client(project=project)
    things = []
    for number in range(1, entities + 1):
        thing = datastore.Entity(client.key("Thing", number))
        thing["n"] = 0
        things.append(thing)
    for start in range(0, entities, 500):
        client.put_multi(things[start : start + 500])
    client.close()


if __name__ == "__main__":
    sys.exit(main())
