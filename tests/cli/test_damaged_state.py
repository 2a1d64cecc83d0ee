"""Run state that cannot be read or written: one sentence, and the files stay unchanged."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bulkup.state.files import make_run_folder
from tests.cli.shell import Shell, contents, refuses_to_resume, seed
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "first page only": lambda data: data[:4096],
    "empty": lambda data: b"",
    "garbage": lambda data: b"\x00\xff not a database " * 500,
    "text": lambda data: b"hello\n",
    "header and garbage": lambda data: data[:100] + b"\xff" * 8000,
    "a page overwritten": lambda data: data[:4096] + b"\xff" * 4096 + data[8192:],
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_one_sentence(half: Shell, lf: Server, damage: str) -> None:
    path = half.checkpoint()
    for side in (path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        side.unlink(missing_ok=True)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    run = half.runs()[0]
    refuses_to_resume(half, lf, run, code=1, says=(f"{run}/checkpoint.sqlite", "damaged"))
    half.bulkup("show", run).fails(1, "damaged")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_does_not_hide_the_others(half: Shell, lf: Server, damage: str) -> None:
    (run,) = half.runs()
    # A later id makes it the latest run.
    broken = half.state_dir / "29990101-000000-dead"
    data = half.checkpoint().read_bytes()
    broken.mkdir()
    (broken / "checkpoint.sqlite").write_bytes(DAMAGE[damage](data))
    first, second = half.bulkup("list", "--json").lines
    assert (first["run_id"], first["state"]) == (broken.name, "damaged")
    assert (second["run_id"], second["state"]) == (run, "stopped")
    assert "damaged" in half.bulkup("list").out
    assert half.bulkup("run", "bump.py", "--limit", "1").code == 75  # new runs work
    result = half.bulkup("resume")
    assert result.code == 0, result
    assert f"skipped run {broken.name}: its checkpoint is damaged" in result.err


def test_a_lock_that_is_a_link_is_not_followed(half: Shell, lf: Server) -> None:
    """Whoever may write into the state directory must not have other files overwritten."""
    victim = half.folder / "notes.txt"
    victim.write_text("important")
    lock = half.checkpoint().with_name("lock")
    lock.unlink()
    lock.symlink_to(victim)
    half.bulkup("resume").fails(1, "cannot write to the run state")
    assert victim.read_text() == "important"


@pytest.mark.parametrize("mask", [0o000, 0o277, 0o777])
def test_folders_are_private_whatever_the_umask_is(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        make_run_folder(tmp_path / "new" / "state", "RUN")
    finally:
        os.umask(before)
    for folder in ("new", "new/state", "new/state/RUN"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700, folder


def test_a_checkpoint_of_a_newer_format_is_left_alone(half: Shell, lf: Server) -> None:
    with closing(sqlite3.connect(half.checkpoint())) as db, db:
        db.execute("UPDATE meta SET value = '999' WHERE name = 'format'")
    db.close()
    before = half.checkpoint().read_bytes()
    refuses_to_resume(
        half, lf, half.runs()[0], code=1, says=("another version of bulkup", "format 999")
    )
    assert half.checkpoint().read_bytes() == before


def test_another_programs_database_is_not_taken_for_a_run(half: Shell, lf: Server) -> None:
    path = half.checkpoint()
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE cookies (name TEXT)")
    db.close()
    refuses_to_resume(half, lf, path.parent.name, code=1, says=("damaged",))


def test_a_checkpoint_that_is_a_folder_is_one_sentence(half: Shell, lf: Server) -> None:
    path = half.checkpoint()
    path.unlink()
    path.mkdir()
    refuses_to_resume(half, lf, path.parent.name, code=1, says=("checkpoint.sqlite",))


@pytest.mark.parametrize(
    "state_dir", ["bump.py/state", "bump.py", "/proc/bulkup-state", "/dev/null"]
)
def test_a_state_directory_that_cannot_be_written(
    lf_shell: Shell, lf: Server, state_dir: str
) -> None:
    seed(lf, 3)
    before = contents(lf)
    files = sorted(lf_shell.folder.rglob("*"))
    lf_shell.bulkup("run", "bump.py", "--state-dir", state_dir).fails(1, state_dir, "--state-dir")
    assert contents(lf) == before
    assert sorted(lf_shell.folder.rglob("*")) == files
