"""A file of the embedded Datastore that has several names."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bulkup.core.errors import StateError
from bulkup.local.storage import Storage


def test_a_file_that_is_open_under_one_name_is_refused_under_a_hard_link(tmp_path: Path) -> None:
    """Each name has a lock and a log of its own, so two servers would write to one database."""
    (tmp_path / "elsewhere").mkdir()
    one, other = tmp_path / "one.db", tmp_path / "elsewhere" / "other.db"
    storage = Storage(one)
    try:
        os.link(one, other)
        with pytest.raises(StateError, match="hard link"):
            Storage(other)
        with storage.writing() as (_, version):  # the first goes on
            assert version
    finally:
        storage.close()
    with pytest.raises(StateError, match="delete the other names"):
        Storage(one)  # under the other name its log may have been lost
    other.unlink()
    Storage(one).close()


def test_a_symbolic_link_is_the_same_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    storage = Storage(one)
    try:
        other.symlink_to(one)
        with pytest.raises(StateError, match="is already open in process"):
            Storage(other)
    finally:
        storage.close()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("text")
    (tmp_path / "one.db-lock").symlink_to(precious)
    with pytest.raises(StateError, match="cannot open"):
        Storage(tmp_path / "one.db")
    assert precious.read_text() == "text"


def test_a_hard_link_to_another_file_is_not_taken_for_a_database(tmp_path: Path) -> None:
    precious = tmp_path / "precious.db"
    with closing(sqlite3.connect(precious)) as db:
        db.execute("CREATE TABLE t(x)")
        db.commit()
    before = precious.read_bytes()
    os.link(precious, tmp_path / "one.db")
    with pytest.raises(StateError):
        Storage(tmp_path / "one.db")
    assert precious.read_bytes() == before
