"""From an emulator through a file of the embedded Datastore and back, and nothing is lost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bulkup.local import v1_json
from bulkup.local.access import LocalFile
from bulkup.local.dumping import dump_export
from bulkup.local.encoding import Partition
from bulkup.local.exports.folder import Database, open_export
from bulkup.local.importing.load import Destination, load_export
from tests.conftest import Server
from tests.local.exports import emulated
from tests.local.exports.make import DATA, PROJECT, SERVED
from tests.local.exports.test_emulators import emulator, in_one_project  # noqa: F401 - a fixture
from tests.local.exports.values import after_export, comparable, entities

SAME_PROJECT = Destination(Database(PROJECT))


def held_by(path: Path, project: str = PROJECT) -> list[Any]:
    with LocalFile(path, Partition(project, "", "")) as file:
        return list(file.everything((), ()))


def served(name: str) -> list[Any]:
    """What an emulator served when it made a committed export."""
    lines = (DATA / name / SERVED).read_bytes().splitlines()
    return [after_export(v1_json.from_form(json.loads(line))) for line in lines]


@pytest.mark.parametrize("name", ["lf", "fs"])
def test_a_loaded_export_is_what_the_emulator_served(tmp_path: Path, name: str) -> None:
    report = load_export(tmp_path / "store", DATA / name, destination=SAME_PROJECT)
    expected = served(name)
    assert report.entities == len(expected)
    assert (report.skipped, report.irregular) == ((), ())
    assert comparable(held_by(tmp_path / "store")) == comparable(expected)


@pytest.mark.parametrize("name", ["lf", "fs"])
def test_a_loaded_export_is_indexed_as_if_its_entities_were_put(tmp_path: Path, name: str) -> None:
    load_export(tmp_path / "loaded", DATA / name, destination=SAME_PROJECT)
    with LocalFile(tmp_path / "put", Partition(PROJECT, "", "")) as file:
        for entity in served(name):
            file.put([entity])
    one, other = (indexed(tmp_path / name) for name in ("loaded", "put"))
    assert one == other
    assert len(one) > 180


INDEXED = """
SELECT namespace, kinds.name, prop, multi, hex(value), hex(path) FROM entries
JOIN slots ON slots.id = slot JOIN kinds ON kinds.id = kind JOIN partitions ON partitions.id = part
WHERE until IS NULL
"""


def indexed(path: Path) -> list[Any]:
    """The index entries of a file."""
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute(INDEXED))


def test_a_file_is_the_same_after_a_dump_and_a_load(tmp_path: Path) -> None:
    load_export(tmp_path / "one", DATA / "fs", destination=SAME_PROJECT)
    with LocalFile(tmp_path / "one", Partition(PROJECT, "", "")) as file:
        dump_export(file, tmp_path / "dumped")
    load_export(tmp_path / "two", tmp_path / "dumped", destination=SAME_PROJECT)
    assert held_by(tmp_path / "two") == held_by(tmp_path / "one")
    # Dumped again it is the same to the byte, except for the moment.
    with LocalFile(tmp_path / "two", Partition(PROJECT, "", "")) as file:
        dump_export(file, tmp_path / "again")
    one, two = (open_export(tmp_path / name) for name in ("dumped", "again"))
    assert [file.name for file in one.files] == [file.name for file in two.files]
    for of in one.files:
        first, second = (tmp_path / name / of.name for name in ("dumped", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_from_an_emulator_through_a_file_and_back(
    emulator: Server,  # noqa: F811
    tmp_path: Path,
) -> None:
    made = [after_export(one) for one in entities(emulator.project, emulator.name)]
    emulated.store(emulator.host, emulator.project, made)
    emulated.export(emulator.name, emulator.host, emulator.project, tmp_path / "exported")
    load_export(tmp_path / "store", tmp_path / "exported")
    with LocalFile(tmp_path / "store", Partition("local", "", "")) as file:
        dump_export(file, tmp_path / "dumped")
    other = f"{emulator.project}-other"
    emulated.load(emulator.name, emulator.host, other, tmp_path / "dumped")
    found = [in_one_project(one) for one in emulated.served(emulator.host, other)]
    assert comparable(found) == comparable([in_one_project(one) for one in made])
