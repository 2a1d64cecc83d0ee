"""What a load does about files that are there already."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bulkup.core.errors import StateError, UsageError
from bulkup.local.access import LocalFile
from bulkup.local.exports.errors import ExportError
from bulkup.local.file import half_loaded_path, lock
from bulkup.local.importing.load import Destination, load_export
from bulkup.local.importing.selection import Selection
from bulkup.local.sharing import FileInUseError
from tests.local.importing.made import (
    PLACE,
    MadeExport,
    entity,
    killed,
    made,
    part,
    people,
    stored,
)


def test_the_same_load_again_does_nothing(path: Path) -> None:
    export = made(people(5))
    load_export(path, export)
    export.read_files.clear()
    before = path.read_bytes()
    report = load_export(path, export)
    assert report.was_loaded
    assert report.entities == 5
    assert not export.read_files
    assert path.read_bytes() == before


def test_a_file_with_other_data_is_replaced_only_if_asked(path: Path) -> None:
    export = made(people(5))
    load_export(path, export)
    with LocalFile(path, PLACE) as file:
        file.put([entity("Person", 1, n=77)])
    with pytest.raises(UsageError, match="holds this export and what was written since; load into"):
        load_export(path, export)
    with pytest.raises(
        UsageError, match="store exists already; load into a new file, or add --replace"
    ):
        load_export(path, made(people(5), name="of another night"))
    assert load_export(path, export, destination=Destination(replace=True)).entities == 5
    assert stored(path) == [one.SerializeToString(deterministic=True) for one in people(5)]


def test_the_old_file_is_there_until_the_new_one_is_whole(path: Path) -> None:
    with LocalFile(path, PLACE) as file:
        file.put([entity("Old", 1)])
    with pytest.raises(ExportError):
        load_export(path, MadeExport((part(9), [people(8)])), destination=Destination(replace=True))
    assert stored(path) == [entity("Old", 1).SerializeToString(deterministic=True)]


def test_commits_in_the_log_of_the_old_file_do_not_come_into_the_new_one(path: Path) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        file = LocalFile(path, PLACE)
        file.put([entity("Old", 1)])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.with_name("store-wal").stat().st_size
    load_export(path, made(people(5)), destination=Destination(replace=True))
    assert len(stored(path)) == 5


def test_an_empty_file_is_not_data(path: Path) -> None:
    LocalFile(path, PLACE).close()
    assert load_export(path, made(people(2))).entities == 2
    path.unlink()
    path.touch()
    assert load_export(path, made(people(2))).entities == 2


def test_a_file_that_is_open_elsewhere_is_left_alone(path: Path) -> None:
    held = lock(path)
    try:
        with pytest.raises(FileInUseError, match="already open in process"):
            load_export(path, made(people(2)))
    finally:
        os.close(held)


@pytest.mark.parametrize("content", [b"my notes", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_of_somebody_else_beside_it_is_left_alone(path: Path, content: bytes) -> None:
    half = half_loaded_path(path)
    half.write_bytes(content)
    with pytest.raises(StateError, match=r"store-loading .*rename it, then load again"):
        load_export(path, made(people(2)))
    assert half.read_bytes() == content


def test_a_whole_file_with_that_name_is_left_alone(path: Path) -> None:
    half = half_loaded_path(path)
    load_export(half, made(people(2), name="another"))
    with pytest.raises(StateError, match="is in the way of this load; rename it"):
        load_export(path, made(people(2)))
    assert len(stored(half)) == 2


def test_what_another_load_has_left_is_deleted_and_said(path: Path) -> None:
    killed(path, made(people(10), name="yesterday"), 8)
    report = load_export(path, made(people(4)))
    assert report.deleted_another
    assert (report.entities, report.resumed_at) == (4, 0)
    killed(path.with_name("other"), made(people(10)), 8, selection=Selection(kinds=("Person",)))
    assert load_export(path.with_name("other"), made(people(10))).deleted_another
