"""A disk that is full ends a rehearsal with a sentence, and is not held against the updater."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import Exit, StateError
from bulkup.local.importing import load as loading
from bulkup.local.requests import Call, guarded
from bulkup.rehearsal import crashing
from bulkup.rehearsal import rehearse as rehearsing
from bulkup.rehearsal.from_export import fill_from_export
from bulkup.rehearsal.killing import KillingServer
from bulkup.rehearsal.rehearse import rehearse
from bulkup.rehearsal.request import OPTIONS
from bulkup.rehearsal.room import check_room
from bulkup.runs.target import TargetOptions
from tests.rehearsal.data import BUMP, export_of, items, request, write

NO_ROOM = r"scratch has no room left for the copies of the rehearsal \(.*\), .* TMPDIR$"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert os.listdir(folder) == []


def full(db: sqlite3.Connection) -> None:
    """SQLite says of the next page that it has no room for it."""
    db.execute("PRAGMA max_page_count = 1")


def test_while_an_export_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"__key__": ["Item", n], "n": n, "s": "x" * 1000} for n in range(1, 200)]
    folder = export_of(tmp_path / "night", lines, "shop")
    target = TargetOptions(project="shop")
    opened = loading.HalfLoadedFile._open

    def without_room(self: Any) -> None:
        opened(self)
        full(self._db)

    monkeypatch.setattr(loading.HalfLoadedFile, "_open", without_room)
    fill = fill_from_export(str(folder), target)
    spec = write(tmp_path, "bump.py", BUMP)
    with pytest.raises(StateError, match=NO_ROOM) as raised:
        rehearse(request(spec, folder, target=target, fill=fill))
    assert raised.value.exit_code == Exit.FAILED


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), sqlite3.OperationalError("disk is full")],
)
def test_while_copies_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(rehearsing, "changes", fail)
    spec = write(tmp_path, "bump.py", BUMP)
    with pytest.raises(StateError, match=NO_ROOM):
        rehearse(request(spec, items(tmp_path / "items", 2), kills=0))


@pytest.mark.parametrize("reason", ["it was killed", "x failed: The disk is full. Nothing of this"])
def test_a_pass_that_has_no_room_is_not_judged(tmp_path: Path, reason: str) -> None:
    is_full = "full" in reason
    with pytest.raises(StateError, match="TMPDIR") if is_full else nullcontext():
        check_room(tmp_path / "scratch" / "copies", "", reason)


def test_while_a_pass_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded Datastore refuses the commits, the pass tries them again, and ends."""

    class FullServer(KillingServer):
        def _watched(self, commit: Call) -> Call:
            def refuse(_: bytes) -> bytes:
                raise sqlite3.OperationalError("database or disk is full")

            return guarded(refuse)

    monkeypatch.setattr(crashing, "KillingServer", FullServer)
    spec = write(tmp_path, "bump.py", BUMP)
    wanted = request(spec, items(tmp_path / "items", 3), second=False)
    with pytest.raises(StateError, match=NO_ROOM):
        rehearse(replace(wanted, options=replace(OPTIONS, retry_for_s=1.0)))


def test_a_crash_pass_that_fails_before_it_is_killed_is_told(tmp_path: Path) -> None:
    spec = write(
        tmp_path, "counts.py",
        f"""
        import pathlib
        import bulkup

        passes = pathlib.Path({str(tmp_path / "passes")!r})
        with passes.open("a") as file:
            file.write("x")

        @bulkup.updater(kind="Item")
        def counts(entity):
            if len(passes.read_text()) > 1:
                raise ValueError("only once")
            entity["n"] += 1
            return entity
        """,
    )  # fmt: skip
    (work,) = rehearse(request(spec, items(tmp_path / "items", 3), second=False, kills=1)).works
    assert work.finished
    assert work.crash is not None
    assert (work.crash.kills, work.crash.is_same) == ((), False)
    assert work.exit_code == Exit.PENDING
