"""`bulkup plan` over a large kind of the embedded Datastore: how soon it answers from its sample.

Each row is the command as a user types it, in a process of its own, from its start to its end, on a
file that no process has open.

    python -m benchmarks.plan [--entities 200000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

LIMIT_S = 15.0

UPDATERS = {
    "a kind": 'query = self.client.query(kind="Person")',
    "a kind with a filter": (
        'query = self.client.query(kind="Person").add_filter(filter=PropertyFilter("half", "=", 1))'
    ),
}

UPDATER = """
from bulkup import Updater
from google.cloud.datastore.query import PropertyFilter

class Age(Updater):
    def get_query(self):
        {query}
        return query

    def handle_entity(self, person):
        person["age"] = int(person["age"])
        self.put(person)
"""


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float
    handled: int
    matching: int

    @property
    def passed(self) -> bool:
        return self.seconds <= LIMIT_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=200_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measured(Path(folder), args.entities))
    for row in rows:
        verdict = "PASS" if row.passed else "FAIL"
        print(
            f"{row.name:<24} {row.seconds:6.1f} s  ({row.handled:,} of {row.matching:,})  "
            f"{verdict}: at most {LIMIT_S:.0f} s"
        )
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def measured(folder: Path, entities: int) -> list[Row]:
    with (folder / "people.jsonl").open("w") as file:
        for i in range(entities):
            person = {"name": f"Person {i}", "age": str(i % 90), "half": i % 2, "note": "x" * 200}
            file.write(json.dumps(person) + "\n")
    bulkup(folder, "local", "load", "people.db", "people.jsonl", "--kind", "Person")
    rows = []
    for name, query in UPDATERS.items():
        (folder / "age.py").write_text(UPDATER.format(query=query))
        started = time.monotonic()
        out = bulkup(folder, "plan", "age.py", "--local", "people.db", "--json")
        seconds = time.monotonic() - started
        lines = [json.loads(line) for line in out.splitlines()]
        (plan,) = (line for line in lines if line["type"] == "plan")
        rows.append(Row(name, seconds, plan["handled"], plan["predicted"]["handled"]["count"]))
    return rows


def bulkup(folder: Path, *words: str) -> str:
    environment = {**os.environ, "BULKUP_CONFIG": os.devnull}
    done = subprocess.run(
        [sys.executable, "-m", "bulkup", *words], cwd=folder, env=environment, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
