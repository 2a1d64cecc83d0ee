"""A load that ends early: nothing or everything has the file's name, and it is always the same."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import Exit, StateError
from bulkup.local import messages as m
from bulkup.local.exports.errors import ExportError
from bulkup.local.file import half_loaded_path
from bulkup.local.importing import half_loaded, index
from bulkup.local.importing import load as loading
from bulkup.local.importing.load import LoadInterruptedError, load_export
from bulkup.local.storage import Storage
from tests.local.importing.made import (
    MadeExport,
    entity,
    killed,
    made,
    part,
    people,
    stored,
    tables,
)


def contents() -> tuple[list[Any], ...]:
    """Three files of 20 entities, with everything that has to be remembered."""
    long = m.Value(string_value="x" * 2000)
    first = [*people(5), entity("__Stat__", 1), *people(2, first=3)]
    second = [entity("Bio", 5, text=long), entity("__Stat__", 2), *people(4, first=9)]
    third = [entity("Bio", 6, text=long), *people(5, first=100)]
    return first, second, third


@pytest.mark.parametrize("at", range(21))
def test_a_load_that_was_killed_is_the_same_after_another(path: Path, at: int) -> None:
    straight = load_export(path.with_name("straight"), made(*contents()))
    assert straight.exported == 20
    assert straight.entities + straight.skipped_entities + straight.repeated == 20
    killed(path, made(*contents()), at)
    if at < 20:
        assert not path.exists()
    export = made(*contents())
    report = load_export(path, export)
    assert report.was_loaded == (at == 20)
    assert report.resumed_at == (0 if at in (0, 1, 2, 20) else report.resumed_at)
    assert report.resumed_at or at in (0, 1, 2, 20)
    assert tables(path) == tables(path.with_name("straight"))
    assert report.skipped == straight.skipped
    assert report.irregular == straight.irregular
    assert (report.entities, report.repeated, report.kinds) == (
        straight.entities, straight.repeated, straight.kinds,
    )  # fmt: skip
    again = load_export(path, export)
    assert again.was_loaded


def test_a_resumed_load_does_not_read_what_is_loaded(path: Path) -> None:
    files = people(7), people(7, first=50)
    killed(path, made(*files), 12)
    export = made(*files)
    report = load_export(path, export)
    assert export.read_files == [("output-1", 5)]
    assert (report.resumed_at, report.entities) == (12, 14)


def test_a_kill_just_before_the_file_gets_its_name_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    export = made(people(7))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        with pytest.raises(Killed):
            load_export(path, export)
    export.read_files.clear()
    assert load_export(path, export).entities == 7
    assert not export.read_files
    assert len(stored(path)) == 7


def test_a_kill_while_the_index_is_made_costs_only_the_index(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = half_loaded.insert_entries

    def die(db: Any, folder: Path) -> None:
        make(db, folder)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(half_loaded, "insert_entries", die)
        killed(path, made(people(7)), 19)
    export = made(people(7))
    report = load_export(path, export)
    assert (report.resumed_at, report.entities) == (7, 7)
    assert not [file for file, skip in export.read_files if skip < 7]
    load_export(path.with_name("straight"), made(people(7)))
    assert tables(path) == tables(path.with_name("straight"))


def test_ctrl_c_while_the_index_is_made_costs_only_the_index(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index, "_STEPS_BETWEEN_SIGNALS", 1)
        patch.setattr(index, "_go_on", interrupt)
        with pytest.raises(LoadInterruptedError, match="7 entities are in store-loading"):
            load_export(path, made(people(7)))
    assert load_export(path, made(people(7))).resumed_at == 7
    load_export(path.with_name("straight"), made(people(7)))
    assert tables(path) == tables(path.with_name("straight"))


def test_ctrl_c_keeps_what_is_loaded_and_says_how_to_resume(path: Path) -> None:
    export = made(people(10))

    def interrupt(one: Any) -> None:
        if one.key.path[-1].id == 8:
            raise KeyboardInterrupt

    export.before = interrupt
    with pytest.raises(
        LoadInterruptedError, match="6 entities are in store-loading; to resume, type"
    ) as raised:
        load_export(path, export)
    assert raised.value.exit_code == Exit.SIGINT
    export.before = lambda _: None
    assert load_export(path, export).resumed_at == 6


def test_a_source_that_cannot_be_reached_keeps_what_is_loaded(path: Path) -> None:
    export = made(people(10))

    def fail(one: Any) -> None:
        if one.key.path[-1].id == 8:
            raise ConnectionResetError(104, "Connection reset by peer")

    export.before = fail
    with pytest.raises(StateError, match="reset by peer; 6 entities are in store-loading"):
        load_export(path, export)
    export.before = lambda _: None
    assert load_export(path, export).resumed_at == 6


def test_a_file_that_is_half_loaded_is_taken_for_none(path: Path) -> None:
    killed(path, made(people(10)), 8)
    half = half_loaded_path(path)
    with pytest.raises(StateError, match="store is not loaded completely: an interrupted"):
        Storage(path)
    assert not path.exists()
    with pytest.raises(StateError, match="store-loading is not loaded completely"):
        Storage(half)
    half.rename(path)
    with pytest.raises(StateError, match="store is not loaded completely: an export was being"):
        Storage(path)


def test_damage_leaves_nothing_behind(path: Path) -> None:
    short = MadeExport((part(11), [people(5), people(5, first=6)]))
    with pytest.raises(ExportError, match="10 of 11 entities"):
        load_export(path, short)
    assert [one.name for one in path.parent.iterdir()] == ["store-lock"]


def test_a_full_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = made(
        people(5), [entity("Big", n, text=m.Value(string_value="x" * 1000)) for n in range(1, 300)]
    )

    def no_more_room(one: Any) -> None:
        if one.key.path[-1].id == 5:
            limits[0].execute("PRAGMA max_page_count = 1")

    limits: list[sqlite3.Connection] = []
    opened = loading.HalfLoadedFile._open

    def remember(self: Any) -> None:
        opened(self)
        limits.append(self._db)

    monkeypatch.setattr(loading.HalfLoadedFile, "_open", remember)
    export.before = no_more_room
    with pytest.raises(
        StateError, match=r"cannot be written \(database or disk is full\), and nothing"
    ):
        load_export(path, export)
    assert [one.name for one in path.parent.iterdir()] == ["store-lock"]
