"""What is loaded of an export, and under which ids."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import UsageError
from bulkup.local import messages as m
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.exports.place import Database
from bulkup.local.importing.load import Destination, load_export
from bulkup.local.importing.report import KindCount
from bulkup.local.importing.selection import Selection, parse_sample
from tests.local.importing.made import (
    PLACE,
    MadeExport,
    entity,
    made,
    part,
    people,
    stored,
)


def test_every_namespace_and_kind_is_loaded_and_can_be_queried(path: Path) -> None:
    everything = [
        *people(4),
        entity("Person", 1, "Pet", "x", n=1),
        entity("Person", 1, namespace="tenant", n=2),
        entity("Toy", 7, namespace="tenant", n=3),
    ]
    report = load_export(path, made(everything[:3], everything[3:]))
    assert report.entities == report.exported == 7
    assert report.kinds == (
        KindCount("", "Person", 4), KindCount("", "Pet", 1),
        KindCount("tenant", "Person", 1), KindCount("tenant", "Toy", 1),
    )  # fmt: skip
    assert not report.skipped
    assert not report.irregular
    expected = [one.SerializeToString(deterministic=True) for one in everything]
    assert sorted(stored(path) + stored(path, "tenant")) == sorted(expected)
    with LocalFile(path, PLACE) as file:
        assert file.count("Person") == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == ["store", "store-lock"]


def test_a_loaded_file_has_the_index_that_commits_would_have_made(path: Path) -> None:
    arrays = m.Value()
    for text in ("b", "a", "b", "c"):
        arrays.array_value.values.add(string_value=text)
    moment = m.Value()
    moment.timestamp_value.seconds = 5
    everything = [
        entity("K", number, n=number, tags=arrays, at=moment, nested=nested(number), empty="")
        for number in range(1, 40)
    ]
    load_export(path, made(everything))
    with LocalFile(path.with_name("put"), PLACE) as file:
        file.put(everything)
    loaded, put = index_of(path), index_of(path.with_name("put"))
    assert len(loaded) > 39 * 7
    assert loaded == put


def index_of(path: Path) -> list[Any]:
    """By property, since slots are numbered as they come."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT prop, multi, value, path, until, eid FROM entries "
            "JOIN slots ON slots.id = slot ORDER BY prop, value, path"
        ).fetchall()


def nested(number: int) -> Any:
    made = m.Value()
    made.entity_value.properties["a"].integer_value = number
    made.entity_value.properties["b"].double_value = number / 3
    return made


def test_kinds_and_namespaces_that_are_not_wanted_are_counted(path: Path) -> None:
    files = [[*people(2), entity("Toy", 1), entity("Toy", 1, namespace="n")]]
    report = load_export(path, made(*files), Selection(kinds=("Toy",)))
    assert (report.entities, report.left_out, report.exported) == (2, 2, 4)
    report = load_export(path.with_name("2"), made(*files), Selection(namespaces=("n",)))
    assert report.kinds == (KindCount("n", "Toy", 1),)
    report = load_export(path.with_name("3"), made(*files), Selection(namespaces=("",)))
    assert report.kinds == (KindCount("", "Person", 2), KindCount("", "Toy", 1))
    both = Selection(kinds=("Toy", "Person"), namespaces=("", "n"))
    assert load_export(path.with_name("4"), made(*files), both).entities == 4


@pytest.mark.parametrize(
    ("selection", "asked"),
    [
        (Selection(kinds=("toy",)), "of kind toy;"),
        (
            Selection(kinds=("Toy", "a\x1b"), namespaces=("",)),
            "of kind Toy or 'a\\x1b', in namespace '';",
        ),
    ],
)
def test_nothing_that_was_asked_for_is_an_error_and_no_file(
    path: Path, selection: Selection, asked: str
) -> None:
    with pytest.raises(UsageError, match="none of the 3 entities") as caught:
        load_export(path, made(people(2), [entity("Toy", 1, namespace="n")]), selection)
    assert asked in caught.value.message
    assert [one.name for one in path.parent.iterdir()] == ["store-lock"]
    assert load_export(path, made([]), selection).entities == 0  # of an empty export, all is loaded


def test_parts_that_hold_nothing_wanted_are_not_read(path: Path) -> None:
    export = MadeExport(
        (part(3, name="1", kinds=("Person",)), [people(2), people(1, first=9)]),
        (part(1, name="2", kinds=("Toy",), namespaces=("",)), [[entity("Toy", 1)]]),
        (
            part(2, name="3", kinds=("Toy",), namespaces=("n",)),
            [[], [entity("Toy", n, namespace="n") for n in (1, 2)]],
        ),
    )
    seen: list[tuple[int, int]] = []
    wanted = Selection(kinds=("Toy",), namespaces=("n",))
    report = load_export(path, export, wanted, watch=lambda *at: seen.append(at))
    assert (report.entities, report.left_out, report.exported) == (2, 4, 6)
    assert [file for file, _ in export.read_files] == ["output-3", "output-4"]
    # What is not read is in no total either.
    assert seen[-1] == (2, sum(one.size for one in export.files if wanted.may_hold(one.part)))


def test_a_sample_has_whole_entity_groups_and_a_larger_one_has_those_of_a_smaller(
    path: Path,
) -> None:
    groups = [
        [entity("Root", n, n=n), entity("Root", n, "Child", 1), entity("Root", n, "C", "x", "D", 1)]
        for n in range(1, 401)
    ]
    everything = [one for group in groups for one in group]
    found = {}
    for text in ("10%", "25%", "100%"):
        file = path.with_name(text)
        report = load_export(file, made(everything), Selection(sample=parse_sample(text)))
        assert report.entities + report.not_sampled == 1200
        with LocalFile(file, PLACE) as opened:
            keys = [one.key.path for one in opened.entities("")]
        found[text] = {path[0].id for path in keys}
        assert len(keys) == 3 * len(found[text])
    assert found["10%"] < found["25%"] < found["100%"]
    assert len(found["100%"]) == 400
    assert 25 <= len(found["10%"]) <= 60
    assert sorted(found["10%"])[:5] == FIRST_OF_THE_SAMPLE


FIRST_OF_THE_SAMPLE = [12, 13, 16, 22, 39]
"""The same on every machine and in every version: a cached sample stays what it was."""


@pytest.mark.parametrize("text", ["0%", "101%", "1", "%", "-1%", "1e1%", "٣%"])
def test_what_is_not_a_percentage_is_not_a_sample(text: str) -> None:
    with pytest.raises(UsageError, match="is not a sample; write a percentage up to 100%"):
        parse_sample(text)


def test_an_imported_id_is_never_given_to_a_new_entity(path: Path) -> None:
    with LocalFile(path.with_name("ids"), PLACE) as file:
        new = [entity("K", 1) for _ in range(50)]
        for one in new:
            one.key.path[0].ClearField("id")
        file.put(new)
        ids = [one.key.path[0].id for one in file.entities("K")]
    assert len(ids) == 50
    imported = [
        *(entity("K", number) for number in ids[:20]),
        *(entity("P", number, "K", "x") for number in ids[20:30]),
        *(entity("K", number, namespace="n") for number in ids[30:40]),
    ]
    load_export(path, made(imported))
    for namespace, taken in (("", ids[:30]), ("n", ids[30:40])):
        with LocalFile(path, Partition("local", "", namespace)) as file:
            before = {one.key.path[-1].id for one in file.entities("K")}
            new = [entity("K", 1, namespace=namespace) for _ in range(100)]
            for one in new:
                one.key.path[0].ClearField("id")
            file.put(new)
            after = {one.key.path[-1].id for one in file.entities("K")} - before
            assert len(after) == 100
            assert after.isdisjoint(taken)
            if not namespace:
                assert set(ids[40:]) <= after  # what was not imported may be given


def test_keys_get_the_project_and_database_asked_for(path: Path) -> None:
    one = entity("K", 1)
    one.key.partition_id.project_id, one.key.partition_id.database_id = "mine", "db"
    load_export(path, made([one]), destination=Destination(Database("mine", "db")))
    with LocalFile(path, Partition("mine", "db", "")) as file:
        assert file.count("") == 1


def test_slots_are_numbered_by_name_whatever_order_a_process_has_for_properties(
    path: Path,
) -> None:
    names = [f"p{number:02}" for number in range(20)]
    load_export(path, made([entity("K", 1, **dict.fromkeys(reversed(names), 1))]))
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT prop FROM slots WHERE prop LIKE 'p%' ORDER BY id").fetchall()
    assert [name for (name,) in found] == names
