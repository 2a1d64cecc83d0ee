"""Loading an export: everything or nothing under the file's name, and the same after any end."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import Exit, StateError, UsageError
from bulkup.local import messages as m
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.exports.errors import ExportError
from bulkup.local.exports.place import Database
from bulkup.local.file import half_loaded_path, lock
from bulkup.local.importing import load as loading
from bulkup.local.importing.load import Destination, LoadInterruptedError, load_export
from bulkup.local.importing.report import Group, KindCount
from bulkup.local.importing.selection import Selection, parse_sample
from bulkup.local.sharing import FileInUseError
from bulkup.local.status import RpcError
from bulkup.local.storage import Storage
from tests.local.importing.made import MadeExport, entity, made, part, tables

pytestmark = pytest.mark.sampled(3)

PLACE = Partition("local", "", "")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BATCH_ENTITIES", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def people(count: int, first: int = 1, **properties: Any) -> list[Any]:
    return [
        entity("Person", first + number, n=number % 3, name=f"p{number}", **properties)
        for number in range(count)
    ]


def stored(path: Path, namespace: str = "") -> list[bytes]:
    with LocalFile(path, Partition("local", "", namespace)) as file:
        return [one.SerializeToString(deterministic=True) for one in file.entities("")]


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


# --- an end in the middle ---


def killed(path: Path, export: MadeExport, at: int, **options: Any) -> None:
    """Load in a process that is killed before it has read the entity number `at`."""
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        seen = 0

        def die(_: Any) -> None:
            nonlocal seen
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        export.before = die
        try:
            load_export(path, export, **options)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (at < 20)


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


# --- what is there already ---


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


def test_an_empty_file_is_no_data(path: Path) -> None:
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


# --- what is wanted ---


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


def test_parts_that_hold_nothing_wanted_are_not_read(path: Path) -> None:
    export = MadeExport(
        (part(3, name="1", kinds=("Person",)), [people(2), people(1, first=9)]),
        (part(1, name="2", kinds=("Toy",), namespaces=("",)), [[entity("Toy", 1)]]),
        (
            part(2, name="3", kinds=("Toy",), namespaces=("n",)),
            [[], [entity("Toy", n, namespace="n") for n in (1, 2)]],
        ),
    )
    report = load_export(path, export, Selection(kinds=("Toy",), namespaces=("n",)))
    assert (report.entities, report.left_out, report.exported) == (2, 4, 6)
    assert [file for file, _ in export.read_files] == ["output-3", "output-4"]


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
def test_what_is_no_percentage_is_no_sample(text: str) -> None:
    with pytest.raises(UsageError, match="is not a sample; write a percentage up to 100%"):
        parse_sample(text)


# --- what a commit would refuse ---


def test_reserved_kinds_and_keys_that_nobody_could_look_up_are_counted(path: Path) -> None:
    foreign = entity("K", 1)
    foreign.key.partition_id.project_id = "elsewhere"
    odd = [
        entity("__BlobInfo__", "a"), entity("__BlobInfo__", "b"), entity("K", "__x__"),
        entity("K", 1, namespace="bad namespace"), foreign, m.Entity(), *people(1),
    ]  # fmt: skip
    report = load_export(path, made(odd))
    assert (report.entities, report.exported) == (1, 7)
    assert report.skipped == (
        Group("__BlobInfo__", 'The kind "__BlobInfo__" is reserved.', 2, "[__BlobInfo__: 'a']"),
        Group("", "The key path must not be empty.", 1, "[]"),
        Group("K", 'The key path element name "__x__" is reserved.', 1, "[K: '__x__']"),
        Group("K", 'Illegal string "bad namespace" in namespace id.', 1, "[K: 1]"),
        Group("K", "It is of another database: elsewhere/(default)", 1, "[K: 1]"),
    )


def value(**fields: Any) -> Any:
    return m.Value(**fields)


def odd_entities() -> dict[str, Any]:
    incomplete = m.Key()
    incomplete.path.add(kind="K", id=1)
    incomplete.path.add(kind="K")
    lists = value()
    lists.array_value.values.add().array_value.values.add(integer_value=1)
    nested = value()
    nested.entity_value.properties["s"].string_value = "x" * 1501
    nested.entity_value.properties["n"].integer_value = 5
    array = value()
    array.array_value.values.add(string_value="y" * 1501)
    array.array_value.values.add(string_value="short")
    odd = {
        "long": value(string_value="x" * 1501),
        "blob": value(blob_value=b"x" * 1501),
        "text": value(string_value="text", meaning=15),
        "zlib": value(blob_value=b"z", meaning=22),
        "key": value(key_value=incomplete),
        "array_in_array": lists,
        "nested": nested,
        "array": array,
        "excluded": value(
            array_value={"values": [value(integer_value=1)]}, exclude_from_indexes=True
        ),
        "point": value(geo_point_value={"latitude": 91.0}),
        "meaning": value(integer_value=1, meaning=9),
        "nothing": value(),
    }
    found = {name: entity("Odd", name, odd=one, n=1) for name, one in odd.items()}
    found["reserved"] = entity("Odd", "reserved", __x__=1, n=1)
    found["large"] = entity(
        "Odd",
        "large",
        n=1,
        a=value(string_value="x" * 600_000, exclude_from_indexes=True),
        b=value(string_value="x" * 600_000, exclude_from_indexes=True),
    )
    return found


def test_what_a_commit_refuses_is_loaded_as_it_is_and_told(path: Path) -> None:
    odd = odd_entities()
    report = load_export(path, made([*odd.values(), *people(1)]))
    assert report.entities == len(odd) + 1
    assert report.irregular_entities == len(odd)
    assert {group.kind for group in report.irregular} == {"Odd"}
    by_key = sorted(odd.values(), key=lambda one: one.key.path[0].name)
    with LocalFile(path, PLACE) as file:
        loaded = list(file.entities("Odd"))
        assert [one.SerializeToString(deterministic=True) for one in loaded] == [
            one.SerializeToString(deterministic=True) for one in by_key
        ]
        assert file.count("Odd") == len(odd)


def queried(file: LocalFile, name: str, **given: Any) -> list[str]:
    request = file._request(m.RunQueryRequest)
    request.query.kind.add(name="Odd")
    condition = request.query.filter.property_filter
    condition.property.name = name
    condition.op = m.PropertyFilter.EQUAL
    condition.value.CopyFrom(value(**given))
    batch = m.RunQueryResponse.FromString(file._answer("RunQuery", request)).batch
    return [one.entity.key.path[0].name for one in batch.entity_results]


def test_what_an_index_can_hold_of_them_is_found(path: Path) -> None:
    odd = odd_entities()
    load_export(path, made([*odd.values()]))
    with LocalFile(path, PLACE) as file:
        assert len(queried(file, "n", integer_value=1)) == len(odd)
        assert queried(file, "odd", string_value="text") == ["text"]
        assert queried(file, "odd", string_value="short") == ["array"]
        assert queried(file, "odd.n", integer_value=5) == ["nested"]
        assert queried(file, "odd", integer_value=1) == ["array_in_array", "meaning"]


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("name", [one for one in odd_entities() if one != "excluded"])
def test_an_updater_can_mend_them_and_nothing_else(path: Path, name: str, defer: bool) -> None:
    odd = odd_entities()[name]
    load_export(path, made([odd]))
    storage = Storage(path)
    try:
        file = loading_file(storage)
        if defer:
            for number in range(3):
                file.put([entity("Other", number + 1, n=1)])
        touched = type(odd)()
        touched.CopyFrom(odd)
        touched.properties["touched"].integer_value = 1
        with pytest.raises(RpcError):
            file.put([touched])
        mended = entity("Odd", name, n=2)
        file.put([mended])
        assert queried(file, "n", integer_value=1) == []
        assert queried(file, "n", integer_value=2) == [name]
    finally:
        storage.close()


def loading_file(storage: Storage) -> LocalFile:
    from bulkup.local.access import OpenFile

    return OpenFile(storage, PLACE)


# --- ids ---


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
