"""Make the fixtures in a folder beside this file, with the version of bulkup that wrote them.

Each folder (named after a commit) holds one folder per project: its updaters as they are, and in
`data.tar.gz` what that version of bulkup left there: the file of the embedded Datastore and the
state directory, bit by bit. To make the ones of 8c94393 again:

    mkdir /tmp/old && git archive 8c94393 | tar x -C /tmp/old
    python3 -m venv /tmp/old-venv && /tmp/old-venv/bin/pip install -e /tmp/old
    /tmp/old-venv/bin/python tests/compatibility/make.py tests/compatibility/8c94393

It runs with the old code alone, so it imports nothing of the tests and nothing private of bulkup.

The projects are made below PLACE. State files name their updater and their Datastore by absolute
path, and `bulkup resume` refuses a run whose Datastore has moved; so the tests that call it lay
the project out at this very path again.

The processes see a clock that is SHIFT_S behind and the host name of HOST: a lease in a fixture
has then run out whatever the time is where the tests run, and no process of that machine is
mistaken for its holder.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

from google.cloud import datastore
from google.cloud.datastore.helpers import GeoPoint

PLACE = Path("/tmp/bulkup-compatibility")
HOST = "old-machine"
MADE = datetime.datetime(2025, 6, 1, tzinfo=datetime.timezone.utc)
SHIFT_S = int((datetime.datetime.now(datetime.timezone.utc) - MADE).total_seconds())
STARTUP = f"""
import platform, time
platform.node = lambda: {HOST!r}
now, now_ns = time.time, time.time_ns
time.time_ns = lambda: now_ns() - {SHIFT_S} * 10**9
time.time = lambda: now() - {SHIFT_S}
import bulkup.clock  # the clock of runs; it keeps the function it finds here
time.time = now  # gRPC computes its deadlines with it
"""
"""A sitecustomize.py, which Python imports before anything else, in child processes too."""

ITEMS = 60


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    makers: dict[str, Callable[[], None]] = {
        "limited": limited, "killed": killed, "migrating": migrating, "chained": chained,
        "namespaces": namespaces, "moving": moving, "values": values,
    }  # fmt: skip
    for name, make in makers.items():
        project = PLACE / name
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(folder / name, project, ignore=shutil.ignore_patterns("data.tar.gz"))
        (PLACE / "startup").mkdir(exist_ok=True)
        (PLACE / "startup" / "sitecustomize.py").write_text(STARTUP)
        os.chdir(project)
        make()
        pack(project, folder / name / "data.tar.gz")
    shutil.rmtree(PLACE)


# --- the projects ---


def limited() -> None:
    """A run that stopped at --limit, with a failure within its budget and a parameter."""
    seed(ITEMS)
    bulkup(
        "run", "bump.py", "--local", "shop.db", "-p", "step=2",
        "--limit", "25", "--batch-size", "10", code=75,
    )  # fmt: skip


def killed() -> None:
    """A run that was killed: it holds a lease, and commits arrived that its checkpoint does not
    know of. Its query is cut into shards."""
    seed(ITEMS)
    bulkup(
        "run", "bump.py", "--local", "shop.db", "-p", "step=2",
        "--batch-size", "5", "--shards", "2", code=-9, DIE_AT="49",
    )  # fmt: skip
    assert unanswered() > 0


def migrating() -> None:
    """The first migration is applied, the second was killed, the third is pending."""
    seed(ITEMS)
    bulkup("migrate", "--local", "shop.db", "--batch-size", "10", code=-9, DIE_AT="b37")


def chained() -> None:
    """The first run of a chain has finished, its successor was killed, a third one waits."""
    seed(ITEMS)
    bulkup("run", "first.py", "--local", "shop.db", "--batch-size", "10", code=-9, DIE_AT="b37")


def namespaces() -> None:
    """Three namespaces: one done, one killed, one not begun."""
    for namespace in ("tenant-1", "tenant-2", "tenant-10"):
        seed(ITEMS // 3, namespace=namespace, first=100 * int(namespace[7:]) + 1)
    bulkup(
        "run", "bump.py", "--local", "shop.db", "--namespaces", "tenant-*",
        "--batch-size", "5", code=-9, DIE_AT="213",
    )  # fmt: skip


def moving() -> None:
    """A run that changes what its query orders by, stopped: only its checkpoint knows which
    entities are done."""
    seed(ITEMS, number=lambda i: i)
    bulkup(
        "run", "raise_n.py", "--local", "shop.db", "--limit", "25", "--batch-size", "10", code=75
    )


def values() -> None:
    """Entities of every type of value, and what `local dump` made of them."""
    with served() as client:
        client.put_multi(list(samples(client)))
    (Path("dump.jsonl")).write_text(bulkup("local", "dump", "shop.db", code=0))
    (Path("lossless.jsonl")).write_text(bulkup("local", "dump", "shop.db", "--lossless", code=0))


def samples(client: datastore.Client) -> Iterator[datastore.Entity]:
    def made(*path: object, unindexed: tuple[str, ...] = (), **properties: object) -> object:
        entity = datastore.Entity(client.key(*path), exclude_from_indexes=unindexed)
        entity.update(properties)
        return entity

    time = datetime.datetime(2024, 2, 29, 12, 30, 0, 123456, tzinfo=datetime.timezone.utc)
    inner = datastore.Entity()
    inner.update(street="Main", number=12, deep=datastore.Entity())
    yield made("Plain", 1, text="ä\n\u2028", number=-(2**63), real=1.5, yes=True, nothing=None)
    yield made("Plain", "by name", list=[1, "two", None, 3.5, False], none=[])
    yield made("Parent", 1, "Child", "c", n=1)
    yield made("Rich", 1, time=time, bytes=b"\x00\xff", place=GeoPoint(48.2, 16.4))
    yield made("Rich", 2, key=client.key("Plain", 1), inner=inner, keys=[client.key("A", "b")])
    yield made("Rich", 3, long="x" * 2000, unindexed=("long",))
    yield made("Rich", 4, big=2**53 + 1, huge=1e300, tiny=-0.0, list=[time, b"b", inner])


# --- tools ---


def environment(**extra: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PLACE / "startup"),
        "HOME": str(PLACE),
        "LOGNAME": "ada",
        "LANG": "C.UTF-8",
        "NO_GCE_CHECK": "true",
        **extra,
    }


def bulkup(*words: str, code: int, **extra: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bulkup", *words],
        env=environment(**extra), stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done
    return done.stdout


@contextmanager
def served(namespace: str | None = None) -> Iterator[datastore.Client]:
    """The official client on `shop.db`."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bulkup", "local", "serve", "shop.db", "--port", "0"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        host = next(w for line in server.stdout for w in line.split() if "127.0.0.1:" in w)
        host = host[host.index("127.0.0.1:") :].strip(".,;'\"")
        with mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=host):
            yield datastore.Client(project="local", namespace=namespace)
    finally:
        server.terminate()
        server.communicate(timeout=30)


def seed(
    count: int,
    *,
    namespace: str | None = None,
    first: int = 1,
    number: Callable[[int], int] = lambda _: 0,
) -> None:
    """Items with the ids from `first`: `n` is a number, and the fifth has none."""
    with served(namespace) as client:
        items = []
        for i in range(first, first + count):
            item = datastore.Entity(client.key("Item", i))
            if i != 5:
                item["n"] = number(i)
            items.append(item)
        client.put_multi(items)


def unanswered() -> int:
    """Items that were written by commits whose answer never reached the checkpoint."""
    (checkpoint,) = Path(".bulkup").glob("*/checkpoint.sqlite")
    with closing(sqlite3.connect(f"file:{checkpoint}?mode=ro", uri=True)) as db:
        (known,) = db.execute("SELECT sum(puts) FROM batches WHERE state = 'done'").fetchone()
    lines = bulkup("local", "dump", "shop.db", "--kind", "Item", code=0).splitlines()
    written = sum(json.loads(line).get("n") == 2 for line in lines)
    print(f"{written} Items written, the checkpoint knows of {known or 0}")
    return written - int(known or 0)


def pack(project: Path, archive: Path) -> None:
    """What the old version left there, without the updaters and without SQLite's scratch."""
    wait_until_unused(project / "shop.db")
    left = [*sorted(project.glob("shop.db*")), *project.glob(".bulkup"), *project.glob("*.jsonl")]
    with tarfile.open(archive, "w:gz", compresslevel=9) as tar:
        for path in left:
            tar.add(path, path.name, filter=neutral)
    print(archive, archive.stat().st_size, [path.name for path in left])


def wait_until_unused(file: Path) -> None:
    """The server of a killed command ends by itself, a moment later."""
    with Path(f"{file}-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def neutral(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """No owner, and no -shm file: SQLite makes it again from the log."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = MADE.timestamp()
    return None if info.name.endswith("-shm") else info


if __name__ == "__main__":
    main()
