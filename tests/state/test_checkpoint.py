"""The checkpoint file: whole at any moment, private, and honest when it is not whole."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from bulkup.core.errors import Exit, HeldError, StateError
from bulkup.core.model import Counts, Failure, LogLine, RunState, TargetInfo
from bulkup.core.records import RunInfo, Shard
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.files import RunLock, find_run, make_run_folder, run_folders
from bulkup.state.record import LeaseTerms
from tests.cli.nursery import REPOSITORY
from tests.cli.shell import Shell

RECORD = RunInfo(
    run_id="20260102-030405-abcd",
    updater="Bump",
    description="Count up.",
    spec="/somewhere/bump.py:Bump",
    source_path="/somewhere/bump.py",
    checksum="c" * 64,
    params={"step": "2", "name": "\N{SNOWMAN} 'quoted'\n"},
    target=TargetInfo("project", "database", "namespace", "localhost:1"),
    fingerprint="f" * 64,
    identity="i" * 64,
    created="2026-01-02T03:04:05+00:00",
)


def row(number: int | None, start: bytes, end: bytes, counts: Counts, *, done: bool) -> BatchRow:
    return BatchRow(1, number, 0, start, end, end, done, counts)


def new(folder: Path) -> Checkpoint:
    made = Checkpoint.create(make_run_folder(folder, RECORD.run_id), RECORD)
    made.follow([Shard(1)], 1)
    return made


def test_it_holds_what_a_run_is(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.close()
    read = Checkpoint.open(made.folder)
    assert read.run_info == RECORD
    assert read.status().state is RunState.RUNNING
    assert read.counts() == Counts()
    assert list(read.failures()) == []
    assert list(read.log_lines()) == []
    read.close()


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    checkpoint = new(tmp_path / "state")
    files = [checkpoint.folder, *checkpoint.folder.iterdir()]
    assert [stat.S_IMODE(f.stat().st_mode) & 0o077 for f in files] == [0] * len(files)
    checkpoint.close()


def test_a_batch_counts_when_it_is_done_and_not_when_it_is_sent(tmp_path: Path) -> None:
    checkpoint = new(tmp_path)
    failure = Failure("Key('Item', 5)", "handle", "ValueError: \udcff no", "Traceback\n  x")
    sent = row(1, b"", b"c1", Counts(handled=10, puts=9, failed=1), done=False)
    checkpoint.batch_sent(sent, [failure], ["saw \udcff 5"])
    assert checkpoint.counts() == Counts()
    assert list(checkpoint.failures()) == []
    assert list(checkpoint.log_lines()) == []
    checkpoint.batch_done(sent, low=(1, b"c1"))
    assert checkpoint.counts() == Counts(handled=10, puts=9, failed=1)
    (kept,) = checkpoint.failures()
    assert (kept.key, kept.step, kept.traceback) == (failure.key, failure.step, failure.traceback)
    assert list(checkpoint.log_lines()) == ["saw \\udcff 5"]
    (shard,) = checkpoint.shards()
    assert (shard.low_number, shard.low_cursor) == (1, b"c1")
    checkpoint.close()


def test_a_batch_that_is_sent_again_replaces_what_was_sent(tmp_path: Path) -> None:
    checkpoint = new(tmp_path)
    first = row(1, b"", b"c1", Counts(handled=10, puts=10), done=False)
    checkpoint.batch_sent(first, [Failure("Key('Item', 1)", "handle", "old")], ["old"])
    second = row(1, b"", b"c1", Counts(handled=10, puts=8, failed=2), done=False)
    checkpoint.batch_sent(second, [Failure("Key('Item', 2)", "handle", "new")], ["new"])
    checkpoint.batch_done(second, low=(1, b"c1"))
    assert checkpoint.counts() == Counts(handled=10, puts=8, failed=2)
    assert [f.error for f in checkpoint.failures()] == ["new"]
    assert list(checkpoint.log_lines()) == ["new"]
    checkpoint.close()


def test_failures_and_log_lines_come_in_order_and_in_parts(
    tmp_path: Path,
) -> None:
    checkpoint = new(tmp_path)
    for number in range(1, 6):
        failures = [Failure(f"Key('Item', {number})", "handle", "x")]
        batch = row(number, b"", b"%d" % number, Counts(handled=1, failed=1), done=False)
        checkpoint.batch_sent(batch, failures, [f"line {number}"])
        checkpoint.batch_done(batch, low=None)
    assert [f.key[-2] for f in checkpoint.failures()] == list("12345")
    assert [f.key[-2] for f in checkpoint.failures(skip=3)] == list("45")
    assert list(islice(checkpoint.log_lines(), 2)) == ["line 1", "line 2"]
    assert checkpoint.log_total() == 5
    checkpoint.close()


def test_the_failure_that_stopped_a_run_is_shown_until_the_next_runner_comes(
    tmp_path: Path,
) -> None:
    checkpoint = new(tmp_path)
    checkpoint.begin_work([Shard(1)], 1, max_failures=0, asked={})
    checkpoint.stopped_by(Failure("Key('Item', 5)", "handle", "ValueError"))
    checkpoint.end_work(RunState.FAILED, "stopped", Exit.FAILED, clean=True)
    assert (checkpoint.counts().failed, len(list(checkpoint.failures()))) == (1, 1)
    status = checkpoint.status()
    assert (status.state, status.exit_code) == (RunState.FAILED, Exit.FAILED)
    checkpoint.begin_work([Shard(1)], 2, max_failures=0, asked={})
    assert (checkpoint.counts().failed, list(checkpoint.failures())) == (0, [])
    assert checkpoint.status().runners == 2
    checkpoint.close()


WRITER = """
from pathlib import Path
from bulkup.core.model import Counts, Failure
from bulkup.state.checkpoint import BatchRow, Checkpoint

checkpoint = Checkpoint.open(Path({folder!r}))
(shard,) = checkpoint.shards()
number, cursor = shard.low_number, shard.low_cursor
print("ready", flush=True)
while True:
    number += 1
    end = b"%09d" % number
    row = BatchRow(1, number, 0, cursor, end, end, False, Counts(handled=3, puts=2, failed=1))
    failure = Failure(f"Key('Item', {{number}})", "handle", "x" * 200, "y" * 2000)
    checkpoint.batch_sent(row, [failure], [f"line {{number}}"])
    checkpoint.batch_done(row, low=(number, end))
    cursor = end
    print(number, flush=True)
"""


def test_killed_at_any_moment_it_is_whole(tmp_path: Path) -> None:
    """Ten writers, one after the other, each killed at another moment of its work."""
    made = new(tmp_path)
    made.close()
    shell = Shell(tmp_path)
    before = 0
    for tenth in range(10):
        process = shell.begin_script(WRITER.format(folder=str(made.folder)))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            assert int(process.stdout.readline()) > before
        time.sleep(tenth * 0.003)  # the moment itself is what varies
        process.kill()
        process.communicate()

        read = Checkpoint.open(made.folder, check=True)
        (shard,) = read.shards()
        done = shard.low_number
        assert shard.low_cursor == (b"%09d" % done if done else b"")
        assert read.counts() == Counts(handled=3 * done, puts=2 * done, failed=done)
        assert [f.key for f in read.failures()] == [f"Key('Item', {n})" for n in range(1, done + 1)]
        assert list(read.log_lines()) == [f"line {n}" for n in range(1, done + 1)]
        assert len(read.batches_above(shard)) <= 1
        assert done >= before
        before = done
        read.close()
    assert before >= 30


def test_a_reader_does_not_disturb_a_writer(tmp_path: Path) -> None:
    writer = new(tmp_path)
    reader = Checkpoint.open(writer.folder, check=False)
    batch = row(1, b"", b"c1", Counts(handled=1, puts=1), done=False)
    writer.batch_sent(batch, [], [])
    assert reader.counts() == Counts()
    writer.batch_done(batch, low=(1, b"c1"))
    assert reader.counts() == Counts(handled=1, puts=1)
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\xff" * 10_000, b"SQLite format 3\x00" + b"\xff" * 5000],
    ids=["empty", "text", "garbage", "header"],
)
def test_what_is_not_a_checkpoint_is_damaged_and_stays_as_it_is(
    tmp_path: Path, data: bytes
) -> None:
    folder = make_run_folder(tmp_path, "run")
    path = folder / "checkpoint.sqlite"
    path.write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        Checkpoint.open(folder)
    assert path.read_bytes() == data


def test_a_checkpoint_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, "run")
    with pytest.raises(StateError):
        Checkpoint.open(folder)
    assert list(folder.iterdir()) == []


def test_a_newer_format_is_named_and_left_alone(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.close()
    with closing(sqlite3.connect(made.path)) as db, db:
        db.execute("UPDATE meta SET value = '7000' WHERE name = 'format'")
    with pytest.raises(StateError, match="format 7000"):
        Checkpoint.open(made.folder)


def test_one_whose_process_was_killed_while_making_it_is_made_again(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, RECORD.run_id)
    (folder / ".checkpoint.sqlite.new").write_bytes(b"half")
    assert run_folders(tmp_path) == []  # there is no run yet
    new(tmp_path).close()
    with closing(Checkpoint.open(folder)) as opened:
        assert opened.run_info == RECORD
    assert run_folders(tmp_path) == [folder]


# --- folders and the lock ---


def test_a_lock_is_held_by_one_process_and_released_by_its_death(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, "run")
    source = (
        "import sys; from pathlib import Path; from bulkup.state.files import RunLock\n"
        "lock = RunLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(folder)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        lock = RunLock(folder)
        assert lock.is_held()
        with pytest.raises(HeldError, match=f"process {process.pid} "):
            lock.acquire()
        process.kill()
        process.wait()
        assert not lock.is_held()
        lock.acquire()
        assert RunLock(folder).is_held()
        lock.release()
        assert not lock.is_held()


def test_folders_that_are_not_runs_are_skipped(tmp_path: Path) -> None:
    made = new(tmp_path)
    made.close()
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("x")
    assert run_folders(tmp_path) == [made.folder]
    assert find_run(tmp_path, "2026") == made.folder
    assert run_folders(tmp_path / "nowhere") == []


def test_a_file_of_an_earlier_version_has_no_times_until_something_is_added(
    tmp_path: Path,
) -> None:
    made = new(tmp_path)
    first, second = row(1, b"", b"b", Counts(), done=True), row(2, b"b", b"c", Counts(), done=True)
    made.batch_done(first, low=None, failures=[Failure("k", "handle", "e")], log_lines=["a"])
    for table in ("failures", "log_lines"):
        made._db.execute(f"ALTER TABLE {table} DROP COLUMN at")
    made.close()
    before = made.path.read_bytes()
    with closing(Checkpoint.open(made.folder)) as old:
        assert [failure.at for failure in old.failures()] == [0.0]
        assert [(line, line.at) for line in old.log_lines()] == [("a", 0.0)]
    assert made.path.read_bytes() == before
    with closing(Checkpoint.open(made.folder)) as old:
        failure, line = Failure("l", "handle", "e", "", 12.5), LogLine.of("b", 13.5)
        old.batch_done(second, low=None, failures=[failure], log_lines=[line])
        assert [failure.at for failure in old.failures()] == [0.0, 12.5]
        assert [line.at for line in old.log_lines()] == [0.0, 13.5]


def test_what_a_later_version_tells_of_its_runners_keeps_nobody_from_the_run(
    tmp_path: Path,
) -> None:
    later = {
        "number": 1, "who": "ann@host", "began": 1.0, "mood": "good",
        "origin": {"ci_job": "7", "weather": "fine"}, "python": "4.0", "system": "Linux",
        "operations": {
            "predicted": {"reads": 1, "writes": 1, "deletes": 0, "later": 1},
            "counted": {"reads": 1, "writes": 1, "deletes": 0},
            "later": {},
        },
    }  # fmt: skip
    with closing(Checkpoint.create(make_run_folder(tmp_path, RECORD.run_id), RECORD)) as checkpoint:
        with checkpoint._step():
            checkpoint._set(who_worked=[later])
        (runner,) = checkpoint.runners()
        assert (runner.who, runner.origin.ci_job) == ("ann@host", "7")
        lease = LeaseTerms(None, 0, 2)
        checkpoint.runner_began(lease)
        assert [one.number for one in checkpoint.runners()] == [1, 2]
