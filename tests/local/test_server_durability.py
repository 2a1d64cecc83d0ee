"""Acknowledged commits survive whatever kills the server; only files of its own are used."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from bulkup.core.errors import StateError, TargetError
from bulkup.local import messages as m
from bulkup.local.file import APPLICATION_ID
from bulkup.local.housekeeping import sweep
from bulkup.local.process import LocalServer, start_local
from bulkup.local.server import DatastoreServer
from bulkup.local.storage import Storage
from tests.local.rpc import Rpc, idents, query, unindexed, where

GROUP = 20
"""Entities of one commit in the test of kills."""


class Committer(threading.Thread):
    """Commits groups of entities, one after another, until the server is gone."""

    def __init__(self, host: str, name: str, first: int, enough: threading.Semaphore) -> None:
        super().__init__()
        self.rpc = Rpc(host)
        self.label = name
        self.first = first
        self.acknowledged: list[int] = []
        self.enough = enough

    def run(self) -> None:
        number = self.first
        while True:
            mutations = [
                m.Mutation(
                    upsert=self.rpc.entity(
                        "Group", self.label, "Member", place + 1, number=number, place=place
                    )
                )
                for place in range(GROUP)
            ]
            marker = self.rpc.entity("Done", f"{self.label}-{number}", number=number)
            mutations.append(m.Mutation(insert=marker))
            try:
                self.rpc.commit(mutations)
            except grpc.RpcError:
                self.rpc.close()
                return
            self.acknowledged.append(number)
            self.enough.release()
            number += 1


def check_file(path: Path) -> None:
    """SQLite finds no damage, and every index row belongs to an entity."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        orphans = db.execute(
            "SELECT count(*) FROM entries i WHERE until IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM entities e WHERE e.eid = i.eid AND e.path = i.path)"
        ).fetchone()
        assert orphans == (0,)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_lose_no_acknowledged_commit_and_split_none(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "db"
    chance = random.Random(7)
    labels = ("one", "two", "three")
    acknowledged: dict[str, int] = dict.fromkeys(labels, 0)
    for _ in range(kills):
        with start_local(path) as server:
            enough = threading.Semaphore(0)
            committers = [
                Committer(server.host, label, acknowledged[label] + 1000, enough)
                for label in labels
            ]
            for committer in committers:
                committer.start()
            for _ in range(chance.randrange(1, 12)):
                assert enough.acquire(timeout=60)
            os.kill(server.pid, signal.SIGKILL)
            for committer in committers:
                committer.join()
        check_file(path)
        with start_local(path) as server:
            rpc = Rpc(server.host)
            for committer in committers:
                last = _check_group(rpc, committer)
                acknowledged[committer.label] = last
            rpc.close()


def _check_group(rpc: Rpc, committer: Committer) -> int:
    """The last stored commit: the last acknowledged one or the one after it."""
    under = where("__key__", "under", rpc.key("Group", committer.label))
    members = rpc.all(query("Member", under))
    numbers = {one.entity.properties["number"].integer_value for one in members}
    if not members:
        assert not committer.acknowledged
        return 0
    assert len(members) == GROUP
    (last,) = numbers
    if committer.acknowledged:
        assert last in (committer.acknowledged[-1], committer.acknowledged[-1] + 1)
    markers = [rpc.key("Done", f"{committer.label}-{n}") for n in committer.acknowledged]
    if markers:
        assert not rpc.lookup(*markers).missing
    beyond = rpc.key("Done", f"{committer.label}-{last}")
    assert rpc.get(beyond) is not None
    assert rpc.get(rpc.key("Done", f"{committer.label}-{last + 1}")) is None
    return int(last) - 1000 + 1


def test_a_reopened_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with start_local(path) as server:
        rpc = Rpc(server.host)
        rpc.put(*(rpc.entity("K", i, a=i % 3) for i in range(1, 10)))
        before = rpc.all(query(order=["a"]))
        cursor = before[3].cursor
        deleted = rpc.get(rpc.key("K", 9))
        assert deleted is not None
        rpc.delete(rpc.key("K", 9))
        rpc.close()
    with start_local(path) as server:
        rpc = Rpc(server.host)
        again = rpc.all(query(order=["a"]))
        assert again == [one for one in before if one.entity.key.path[0].id != 9]
        rest = [ident for ident in idents(before)[4:] if ident != 9]
        assert idents(rpc.all(query(order=["a"], start=cursor))) == rest
        (result,) = rpc.put(deleted.entity).mutation_results
        assert result.version > max(one.version for one in before)
        rpc.close()


def test_versions_increase_when_the_clock_goes_back(tmp_path: Path) -> None:
    time_now = 2_000_000_000_000_000
    path = tmp_path / "db"
    versions = []
    for clock in (time_now, time_now - 10**12, 1, time_now + 5):
        storage = Storage(path, clock=lambda clock=clock: clock)  # type: ignore[misc]
        with DatastoreServer(path, storage=storage) as server:
            rpc = Rpc(server.host)
            for value in range(2):
                results = rpc.put(rpc.entity("K", 1, clock=clock, value=value)).mutation_results
                versions.append(results[0].version)
            rpc.delete(rpc.key("K", 1))
            rpc.close()
    assert versions == sorted(set(versions))


def test_a_file_is_served_once_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with start_local(path) as server:
        with pytest.raises(StateError) as caught:
            start_local(path)
        assert f"{path} is already open in process {server.pid}" in caught.value.message
        link = tmp_path / "link"
        link.symlink_to(path)
        with pytest.raises(StateError):
            start_local(link)
        os.kill(server.pid, signal.SIGKILL)
        # The operating system releases the lock when the process is gone.
        server.stop()
    with start_local(path) as server:
        assert server.host


def test_many_clients_share_a_server(tmp_path: Path) -> None:
    with start_local(tmp_path / "db") as server:
        script = (
            "import sys; from tests.local.rpc import Rpc; r = Rpc(sys.argv[1]); "
            "[r.put(r.entity('K', f'{sys.argv[2]}-{i}', a=1)) for i in range(20)]"
        )
        root = str(Path(__file__).parents[2])
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", script, server.host, str(number)],
                env={**os.environ, "PYTHONPATH": root},
            )
            for number in range(2)
        ]
        assert [client.wait(60) for client in clients] == [0, 0]
        rpc = Rpc(server.host)
        assert len(rpc.all(query("K", where("a", "=", 1)))) == 40
        rpc.close()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with start_local(path) as server:
        rpc = Rpc(server.host)
        rpc.put(rpc.entity("K", 1))
        rpc.close()
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_scratch_server_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with start_local(None) as server:
        assert Path(server.path).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("my notes, which are longer than nothing\n" * 100)
    with pytest.raises(StateError, match="is not a file of bulkup's embedded Datastore"):
        start_local(text)
    assert text.read_text().startswith("my notes")
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE t(a)")
    before = other.read_bytes()
    with pytest.raises(StateError, match="is a SQLite file, but not one of"):
        start_local(other)
    assert other.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    start_local(path).stop()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match=r"newer bulkup .format 99"):
        start_local(path)


@pytest.mark.parametrize("place", ["missing/db", "."])
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(StateError, match=r"cannot open|is not a file of"):
        start_local(tmp_path / place)


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TargetError, match=f"cannot listen on 127.0.0.1:{port}"):
            start_local(tmp_path / "db", port=port)
    with pytest.raises(TargetError, match="cannot listen on"):
        start_local(tmp_path / "db", port=99_999)
    with start_local(tmp_path / "db") as server:
        assert server.host.startswith("127.0.0.1:")


def _gone(pid: int, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        threading.Event().wait(0.05)
    return False


def test_the_server_stops_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys; from bulkup.local.process import start_local; "
        "s = start_local(sys.argv[1]); print(s.pid, flush=True); sys.stdin.read()"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        assert _gone(pid)
    with start_local(tmp_path / "db"):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    server: LocalServer = start_local(tmp_path / "db")
    rpc = Rpc(server.host)
    rpc.put(rpc.entity("K", 1))
    rpc.close()
    os.kill(server.pid, number)
    assert server._process.wait(20) == 0
    server.stop()
    # The log has been moved into the file.
    assert not (tmp_path / "db-wal").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_startup_stops_the_server_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkup.local", str(tmp_path / "db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    status = Path(f"/proc/{process.pid}/status")
    # The handler of SIGTERM is installed last, long before the server accepts calls.
    caught = 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        assert process.poll() is None
        lines = status.read_text().splitlines()
        caught = int(next(line for line in lines if line.startswith("SigCgt:")).split()[1], 16)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


def test_a_file_of_the_user_is_not_taken_for_a_module_of_python(tmp_path: Path) -> None:
    for name in ("secrets", "copy", "email", "attr"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is a script of the user')\n")
    done = subprocess.run(
        [
            sys.executable, "-c",
            "import sys; sys.path[:] = filter(None, sys.path)\n"
            "from bulkup.local.process import start_local\n"
            "with start_local('db') as server: print(server.host)",
        ],
        executable=sys.executable,  # a real interpreter, which has imported nothing
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("127.0.0.1:")


def test_a_full_disk_is_reported_and_changes_nothing(tmp_path: Path) -> None:
    with DatastoreServer(tmp_path / "db") as server:
        rpc = Rpc(server.host)
        rpc.put(*(rpc.entity("K", i, a=i, blob=unindexed("x" * 5000)) for i in range(1, 50)))
        before = rpc.all(query())
        db = server.storage._write
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        big: list[Any] = [rpc.entity("K", i, a=0, blob=unindexed("y" * 9000)) for i in range(1, 90)]
        with pytest.raises(grpc.RpcError) as caught:
            rpc.put(*big)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "disk is full" in (caught.value.details() or "")
        assert rpc.all(query()) == before
        assert idents(rpc.all(query(order=["a"]))) == idents(before)
        db.execute("PRAGMA max_page_count = 1073741823")
        rpc.put(*big)
        assert len(rpc.all(query())) == 89
        rpc.close()


def _counts(storage: Storage) -> tuple[int, int]:
    """The number of past entities, and of entries."""
    with storage.reading() as snapshot:
        past, entries = snapshot.db.execute(
            "SELECT (SELECT count(*) FROM entities_past), (SELECT count(*) FROM entries)"
        ).fetchone()
    return past, entries


def test_the_past_is_deleted_after_an_hour_and_not_before(tmp_path: Path) -> None:
    now = [1_900_000_000_000_000]
    storage = Storage(tmp_path / "db", clock=lambda: now[0])
    with DatastoreServer(tmp_path / "db", storage=storage) as server:
        rpc = Rpc(server.host)
        rpc.put(*(rpc.entity("K", i, a=1, b=[1, 2]) for i in range(1, 4)))
        now[0] += 10**6
        rpc.put(rpc.entity("K", 1, a=2, b=[2, 3]))
        rpc.delete(rpc.key("K", 2))
        now[0] += 30 * 60 * 10**6
        assert not sweep(storage)
        assert _counts(storage)[0] == 2
        now[0] += 31 * 60 * 10**6
        sweep(storage)
        # The entries of the two remaining entities are left: a, and two elements of b.
        assert _counts(storage) == (0, 6)
        assert idents(rpc.all(query("K", where("b", "=", 3)))) == [1]
        assert idents(rpc.all(query("K", where("b", "=", 1)))) == [3]
        rpc.close()
