"""Managed exports: how fast one is read, loaded into a file and dumped again, and in which memory.

A synthetic export of 150 MB is made first, in files of 16 MB. Each row is a process of its own.

    python -m benchmarks.exports [--megabytes 150] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LIMIT_MIB = 150
"""The memory that each row may use, whatever the size of the export."""
FILE_BYTES = 16 << 20
HEADING = (
    f"{'':12}{'entities':>10}{'wall':>10}{'CPU µs':>9}{'entities/s':>12}{'MB/s':>8}{'peak MiB':>10}"
)
CHILDREN = 9
"""Of each root entity: groups of ten."""


def people(project: str) -> Iterator[Any]:
    """Entities of 12 properties and 600 bytes."""
    from bulkup.local import messages as m

    drawn = random.Random(1)
    number = 0
    while True:
        number += 1
        entity = m.Entity()
        entity.key.partition_id.project_id = project
        if number % (CHILDREN + 1):
            entity.key.path.add(kind="Family", id=number // (CHILDREN + 1) + 1)
        entity.key.path.add(kind="Person", id=number)
        of = entity.properties
        of["first"].string_value = f"Ada{number}"
        of["last"].string_value = drawn.choice(("Lovelace", "Hopper", "Hamilton"))
        of["email"].string_value = f"ada{number}@example.com"
        of["age"].integer_value = drawn.randrange(100)
        of["score"].double_value = drawn.random()
        of["active"].boolean_value = bool(number % 2)
        of["born"].timestamp_value.seconds = 1_000_000_000 + number
        of["boss"].key_value.CopyFrom(entity.key)
        for tag in drawn.sample(("a", "b", "c", "d"), 3):
            of["tags"].array_value.values.add(string_value=tag)
        of["bio"].string_value = drawn.choice("abc") * 250
        of["bio"].exclude_from_indexes = True
        address = of["address"].entity_value.properties
        address["street"].string_value = f"Main Street {number}"
        address["zip"].string_value = "12345"
        of["nothing"].null_value = 0
        yield entity


def make(folder: Path, megabytes: int) -> int:
    """Write the export; returns the number of entities."""
    from bulkup.local.exports.writer import ExportWriter

    with ExportWriter(folder, file_bytes=FILE_BYTES) as writer:
        for entity in people("benchmark"):
            writer.write(entity)
            if writer.bytes >= megabytes * 1_000_000:
                break
    return writer.entities


# --- the rows ---


def checksums(scratch: Path) -> int:
    from bulkup.local.exports.folder import open_export
    from bulkup.local.exports.record_log import read_records

    export = open_export(scratch / "export")
    records = 0
    for file in export.files:
        with export.source.open(file.name) as stream:
            records += sum(1 for _ in read_records(stream, file.name))
    return records


def read(scratch: Path) -> int:
    from bulkup.local.exports.folder import Database, open_export

    return sum(1 for _ in open_export(scratch / "export").entities(Database("local")))


def load(scratch: Path) -> int:
    from bulkup.local.importing.load import load_export

    return load_export(scratch / "store", scratch / "export").entities


def dump(scratch: Path) -> int:
    from bulkup.local.access import LocalFile
    from bulkup.local.dumping import dump_export
    from bulkup.local.encoding import Partition

    with LocalFile(scratch / "store", Partition("local", "", "")) as file:
        return dump_export(file, scratch / "dumped").entities


ROWS: dict[str, Callable[[Path], int]] = {
    "checksums": checksums, "read": read, "load": load, "dump": dump,
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    entities: int
    seconds: float
    cpu_s: float
    peak_mib: float


def measure(row: str, scratch: Path) -> Measured:
    """In this process."""
    start, cpu = time.perf_counter(), time.process_time()
    entities = ROWS[row](scratch)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    status = Path("/proc/self/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return Measured(entities, seconds, cpu, int(peak) / 1024)


def is_fine(one: Measured, entities: int) -> bool:
    return one.entities == entities and one.peak_mib <= LIMIT_MIB


def line(row: str, one: Measured, entities: int, megabytes: int) -> str:
    return (
        f"{row:12}{one.entities:>10,}{one.seconds:>8.1f} s{one.cpu_s / entities * 1e6:>9.1f}"
        f"{entities / one.seconds:>12,.0f}{megabytes / one.seconds:>8.1f}"
        f"{one.peak_mib:>10.0f}  {'PASS' if is_fine(one, entities) else 'FAIL'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=150)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(asdict(measure(options.row, options.scratch))))
        return 0

    results: dict[str, Measured] = {}
    print(HEADING)
    with tempfile.TemporaryDirectory(prefix="bulkup-benchmark-") as name:
        scratch = Path(name)
        entities = make(scratch / "export", options.megabytes)
        for row in ROWS:
            command = [
                sys.executable, "-m", "benchmarks.exports", "--row", row, "--scratch", name,
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            one = results[row] = Measured(**json.loads(done.stdout))
            print(line(row, one, entities, options.megabytes), flush=True)
    if options.json:
        facts = {"megabytes": options.megabytes} | {row: asdict(results[row]) for row in results}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if all(is_fine(one, entities) for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
