"""Dump a file as a managed export, and load it again: the same file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from bulkup.core.errors import StateError, UsageError
from bulkup.local.access import LocalFile
from bulkup.local.dumping import dump_export
from bulkup.local.encoding import Partition
from bulkup.local.exports.folder import open_export
from bulkup.local.exports.place import Database
from bulkup.local.importing.load import Destination, load_export
from bulkup.local.importing.report import KindCount
from bulkup.local.importing.selection import Selection
from bulkup.local.served import ServedFile
from bulkup.local.server import DatastoreServer
from bulkup.local.sharing import ServedBy
from tests.local.differential.budget import examples
from tests.local.differential.build import Place
from tests.local.differential.strategies import relocate, worlds
from tests.local.importing.made import entity, tables

HERE = Partition("local", "", "")
ENTITIES = (
    entity("Person", 1, name="x"), entity("Person", 2, name="y"), entity("Toy", "t"),
    entity("Person", 1, namespace="n"), entity("BulkupRun", "r"),
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with LocalFile(tmp_path / "store", HERE) as opened:
        opened.put(ENTITIES)
    return tmp_path / "store"


def kinds(report: Any) -> list[tuple[str, str, int]]:
    return [tuple(one) for one in report.kinds]


@given(worlds(size=15))
@examples(30)
def test_what_was_dumped_is_the_same_when_it_is_loaded(drawn: list[Any]) -> None:
    world = [relocate(Place("local", namespace), one) for one in drawn for namespace in ("", "n")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LocalFile(folder / "one", HERE) as one:
            one.put(world)
            before = list(one.everything((), ()))
            dump_export(one, folder / "export")
        report = load_export(folder / "two", folder / "export")
        assert not report.irregular
        with LocalFile(folder / "two", HERE) as two:
            after = list(two.everything((), ()))
            dump_export(two, folder / "again")
        load_export(folder / "three", folder / "again")
        assert tables(folder / "three")["entities"] == tables(folder / "two")["entities"]
    assert len(after) == len(before) == len(world)
    assert [one.key for one in after] == [one.key for one in before]


def test_all_namespaces_are_dumped_without_run_records(file: Path, tmp_path: Path) -> None:
    with LocalFile(file, HERE) as opened:
        assert dump_export(opened, tmp_path / "export", leave_out=("BulkupRun",)).left_out == 1
    report = load_export(tmp_path / "two", tmp_path / "export")
    assert kinds(report) == [("", "Person", 2), ("", "Toy", 1), ("n", "Person", 1)]


def test_kinds_and_namespaces_can_be_chosen(file: Path, tmp_path: Path) -> None:
    with LocalFile(file, HERE) as opened:
        dump_export(opened, tmp_path / "1", kinds=("Toy", "BulkupRun"), leave_out=("BulkupRun",))
        dump_export(opened, tmp_path / "2", namespaces=("n",))
        dump_export(opened, tmp_path / "3", kinds=("Person",), namespaces=("",))
        dump_export(opened, tmp_path / "4", kinds=("No",))
        with pytest.raises(UsageError, match="Illegal string"):
            dump_export(opened, tmp_path / "5", namespaces=("bad one",))
    loaded = {
        number: kinds(load_export(tmp_path / f"to{number}", tmp_path / number)) for number in "1234"
    }
    assert loaded == {
        "1": [("", "BulkupRun", 1), ("", "Toy", 1)], "2": [("n", "Person", 1)],
        "3": [("", "Person", 2)], "4": [],
    }  # fmt: skip
    assert not (tmp_path / "5").exists()


def test_kinds_that_are_not_wanted_are_not_read(file: Path, tmp_path: Path) -> None:
    with LocalFile(file, HERE) as opened:
        dump_export(opened, tmp_path / "export", kinds=("Toy", "Person"))
    export = open_export(tmp_path / "export")
    for listed in export.files:
        if "Person" in listed.part.kinds:
            (tmp_path / "export" / listed.name).write_bytes(b"damaged")
    report = load_export(tmp_path / "two", export, Selection(kinds=("Toy",)))
    assert report.kinds == (KindCount("", "Toy", 1),)
    assert (report.exported, report.left_out) == (4, 3)


def test_a_file_that_is_served_is_dumped_as_it_was_when_the_dump_began(tmp_path: Path) -> None:
    with LocalFile(tmp_path / "store", HERE) as opened:
        opened.put([entity("A", n, text="x" * 900) for n in range(1, 400)])
        opened.put([entity("B", n, namespace="n") for n in range(1, 4)])
    with DatastoreServer(tmp_path / "store") as server:
        served = ServedBy(0, server.port)
        with ServedFile(tmp_path / "store", HERE, served) as source:
            reading = source.everything((), ())
            first = next(reading)
            changed = [entity("B", 1, namespace="n", new=1), entity("A", 399, text="new")]
            from bulkup.local.access import OpenFile

            OpenFile(server.storage, HERE).put(changed)
            rest = list(reading)
    assert first.key.path[0].kind == "A"
    assert len(rest) == 398 + 3
    assert not [one for one in rest if "new" in one.properties]
    assert not [one for one in rest if one.properties["text"].string_value == "new"]


def test_an_export_of_one_project_becomes_another_in_every_key(file: Path, tmp_path: Path) -> None:
    with LocalFile(file, HERE) as opened:
        dump_export(opened, tmp_path / "export")
    place = Database("mine", "db")
    load_export(tmp_path / "two", tmp_path / "export", destination=Destination(place))
    with LocalFile(tmp_path / "two", Partition("mine", "db", "n")) as opened:
        assert opened.count("Person") == 1


def test_an_interrupted_dump_leaves_nothing(file: Path, tmp_path: Path) -> None:
    with LocalFile(tmp_path / "more", HERE) as opened:
        opened.put([entity("A", n) for n in range(1, 501)])

        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dump_export(opened, tmp_path / "export", watch=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "more", "more-lock", "store", "store-lock",
    ]  # fmt: skip


def test_a_folder_that_is_there_is_not_touched(file: Path, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "mine").touch()
    with LocalFile(file, HERE) as opened:
        with pytest.raises(UsageError, match="is there already"):
            dump_export(opened, tmp_path / "export")
        with pytest.raises((UsageError, StateError), match="create it first"):
            dump_export(opened, tmp_path / "no" / "export")
