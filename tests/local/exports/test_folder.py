"""Exports as folders: whole ones are read, others are refused."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import BulkupError, UsageError
from bulkup.local import v1_json
from bulkup.local.exports.entity_proto import Overall
from bulkup.local.exports.entity_proto import Part as PartMessage
from bulkup.local.exports.errors import ExportError
from bulkup.local.exports.folder import Database, Part, open_export
from bulkup.local.exports.record_log import BLOCK_BYTES, RecordWriter, read_records
from tests.local.exports.folders import HERE, few, read, write
from tests.local.exports.make import DATA, PROJECT, SERVED
from tests.local.exports.values import NAMESPACES, after_export, comparable, entities


@pytest.mark.parametrize("name", ["lf", "fs"])
def test_a_committed_export_of_an_emulator_is_what_it_served(name: str) -> None:
    """`make.py` makes them. For machines without Java; test_emulators.py does it afresh."""
    lines = (DATA / name / SERVED).read_bytes().splitlines()
    served = [after_export(v1_json.from_form(json.loads(line))) for line in lines]
    export = open_export(DATA / name)
    assert export.origin == Database(PROJECT)
    assert export.promised_entities == len(served) > 180
    assert comparable(read(export)) == comparable(served)
    assert export.version == "3"
    (part,) = export.parts
    assert (part.kinds, part.namespaces) == ((), None)
    assert part.bytes == export.bytes == export.promised_bytes


def test_what_is_written_is_read_file_by_file(tmp_path: Path) -> None:
    made = entities("p", "both")
    folder = write(tmp_path / "export", made, file_bytes=20_000)
    export = open_export(folder)
    assert export.name == "export.overall_export_metadata"
    assert [file.name.rpartition("/")[2] for file in export.files] == [
        f"output-{n}" for n in range(len(export.files))
    ]
    assert len(export.files) >= 3
    found = list(export.entities())
    assert comparable([one.entity for one in found]) == comparable([after_export(o) for o in made])
    assert {one.entity.key.partition_id.namespace_id for one in found} == set(NAMESPACES)
    for file in export.files:
        of_file = [one for one in found if one.file == file.name]
        assert of_file[0].offset == 0
        assert of_file[-1].end == file.size == (folder / file.name).stat().st_size
    assert sum(file.size for file in export.files) == export.bytes == export.promised_bytes


def test_each_kind_that_is_named_is_a_part(tmp_path: Path) -> None:
    made = few(3, "a/b") + few(2, "K") + few(1, "Ä" * 100)
    kinds = ("a/b", "Ä" * 100, "K", "..", "none")
    export = open_export(write(tmp_path / "export", made, kinds=kinds))
    assert [(part.kinds, part.entities) for part in export.parts] == [
        (("a/b",), 3), (("Ä" * 100,), 1), (("K",), 2), (("..",), 0), (("none",), 0),
    ]  # fmt: skip
    assert comparable(read(export)) == comparable(made)
    assert (tmp_path / "export/all_namespaces/kind_K/output-0").is_file()


def test_an_export_of_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", [])
    # As both emulators write it.
    assert [path.name for path in folder.iterdir()] == ["export.overall_export_metadata"]
    assert (folder / "export.overall_export_metadata").stat().st_size == 15
    export = open_export(folder)
    assert (export.files, export.origin, read(export)) == ((), None, [])


def test_the_first_entities_of_a_file_can_be_skipped(tmp_path: Path) -> None:
    export = open_export(write(tmp_path / "export", few(5)))
    (file,) = export.files
    whole = list(export.read(file))
    assert list(export.read(file, skip=3)) == whole[3:]
    assert list(export.read(file, skip=9)) == []


def test_the_fingerprint_is_of_one_export(tmp_path: Path) -> None:
    one = open_export(write(tmp_path / "one", few()))
    assert one.fingerprint == open_export(tmp_path / "one").fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert open_export(tmp_path / "copy").fingerprint == one.fingerprint
    # Of the same data, at another moment.
    write(tmp_path / "else" if (tmp_path / "else").mkdir() else tmp_path / "else" / "one", few())
    assert open_export(tmp_path / "else" / "one").fingerprint != one.fingerprint
    assert len(one.fingerprint) == 64


# --- where an export is ---


@pytest.mark.parametrize("what", ["", "export.overall_export_metadata", ".."])
def test_an_export_is_named_by_its_file_or_folder_or_the_one_above(
    tmp_path: Path, what: str
) -> None:
    folder = write(tmp_path / "export", few())
    assert len(read(open_export(str(folder / what)))) == 3


def refusal(place: Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_export(place)
    return caught.value.message


def test_what_is_not_an_export_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "nowhere")
    assert "is not an export" in refusal(tmp_path)
    folder = write(tmp_path / "export", few())
    part = "all_namespaces/all_kinds"
    for name in (f"{part}/output-0", f"{part}/all_namespaces_all_kinds.export_metadata"):
        assert "is not the .overall_export_metadata file" in refusal(folder / name)
    assert "is not an export" in refusal(folder / part)


def test_one_of_several_exports_has_to_be_named(tmp_path: Path) -> None:
    for name in "abcde":
        write(tmp_path / name, few())
    message = refusal(tmp_path)
    assert "holds 5 exports; name one of them: " in message
    assert f"{tmp_path}/a/a.overall_export_metadata" in message
    assert message.endswith("and 2 more")


# --- damage ---


def failure(folder: Path) -> BulkupError:
    with pytest.raises(BulkupError) as caught:
        read(folder)
    assert "\n" not in caught.value.message
    return caught.value


def metadata_of(folder: Path) -> Path:
    return folder / f"{folder.name}.overall_export_metadata"


def rewrite(folder: Path, change: Callable[[Any], None], version: bytes = b"3") -> None:
    """Change the overall metadata, with checksums that match."""
    path = metadata_of(folder)
    with path.open("rb") as stream:
        records = [one.data for one in read_records(stream, "")]
    overall = Overall.FromString(records[1])
    change(overall)
    with path.open("wb") as stream:
        log = RecordWriter(stream)
        log.write(version)
        log.write(overall.SerializeToString())


def test_every_cut_of_any_file_and_a_flipped_bit_of_each_byte_are_errors(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", [HERE.entity(("K", 1), {"n": 1})])
    export = open_export(folder)
    for path in (metadata_of(folder), folder / export.files[0].name):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            error = failure(folder)
            assert isinstance(error, ExportError)
            # A cut between two records shows in the number of entities, which another file has.
            assert error.file in (str(path), str(metadata_of(folder)))
        for byte in range(len(whole)):  # test_record_log.py flips every bit
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << byte % 8
            path.write_bytes(flipped)
            error = failure(folder)
            assert isinstance(error, ExportError)
            assert error.file == str(path)
            assert error.offset is not None
            assert error.offset <= byte
        path.write_bytes(whole)
    assert len(read(folder)) == 1


def test_cut_metadata_of_a_part_never_loses_an_entity(tmp_path: Path) -> None:
    """It has no checksum: its flipped bits are harmless, or show as a missing file."""
    folder = write(tmp_path / "export", few(2))
    part = open_export(folder).parts[0]
    path = folder / part.name
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        failure(folder)
    for byte in range(len(whole)):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << byte % 8
        path.write_bytes(flipped)
        try:
            found = len(read(folder))
        except ExportError:
            found = 2
        assert found == 2


def test_a_file_that_is_cut_between_two_entities_does_not_have_what_was_promised(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "export", few(3))
    export = open_export(folder)
    path = folder / export.files[0].name
    ends = [one.end for one in export.entities()]
    os.truncate(path, ends[1])
    error = failure(folder)
    assert "it promises 3 entities, and its files have 2" in error.message
    assert str(metadata_of(folder)) in error.message


def test_entities_are_yielded_up_to_the_damage(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few(3))
    export = open_export(folder)
    last = list(export.entities())[-1]
    with (folder / last.file).open("r+b") as file:
        file.seek(last.end - 1)
        file.write(b"\xee")
    entities = open_export(folder).entities()
    assert [next(entities).offset, next(entities).end] == [0, last.offset]
    with pytest.raises(ExportError, match=f"output-0, byte {last.offset:,}: ") as caught:
        next(entities)
    assert caught.value.offset == last.offset


def test_a_record_that_is_not_an_entity_is_damage(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few(1))
    path = folder / open_export(folder).files[0].name
    with path.open("wb") as stream:
        RecordWriter(stream).write(b"no entity")
    error = failure(folder)
    assert "output-0, byte 0: the record is not an entity (it is not an entity)" in error.message


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    """Reading it would wait forever."""
    folder = write(tmp_path / "export", few(1))
    name = folder / open_export(folder).files[0].name
    name.unlink()
    os.mkfifo(name)
    with pytest.raises(ExportError, match="not a regular file"):
        open_export(folder)


@pytest.mark.parametrize("what", ["part", "file"])
def test_a_missing_file_is_an_error_before_anything_is_read(tmp_path: Path, what: str) -> None:
    folder = write(tmp_path / "export", few(1) + few(1, "L"), kinds=("K", "L"))
    export = open_export(folder)
    missing = folder / (export.parts[1].name if what == "part" else export.files[1].name)
    missing.unlink()
    with pytest.raises(ExportError, match="is missing; copy the whole export") as caught:
        open_export(folder)
    assert caught.value.file == str(missing)


def test_another_version_of_the_format_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few())
    rewrite(folder, lambda _: None, version=b"4")
    message = failure(folder).message
    assert "it is of version 4 of the export format, and bulkup reads version 3" in message
    rewrite(folder, lambda _: None, version=b"\x1b[2J" * 99)
    assert "\x1b" not in failure(folder).message


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "", "x\0y"])
def test_a_file_outside_of_the_export_is_not_read(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "export", few())
    part = open_export(folder).parts[0]
    message = PartMessage.FromString((folder / part.name).read_bytes())
    message.kind[0].file[0] = name
    (folder / part.name).write_bytes(message.SerializeToString())
    assert isinstance(failure(folder), ExportError)

    def change(overall: Any) -> None:
        overall.pointer[0].file = name

    rewrite(folder, change)
    assert isinstance(failure(folder), ExportError)


def test_metadata_that_is_something_else_is_damage(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few())
    path = metadata_of(folder)
    for records in (
        [],
        [b"3"],
        [b"3", b"\xff\xff"],
        [b"3", b"", b""],
        [b"3", b"\x0a\x03\x12\x01\xff"],
    ):
        with path.open("wb") as stream:
            log = RecordWriter(stream)
            for record in records:
                log.write(record)
        error = failure(folder)
        assert isinstance(error, ExportError)
        assert error.file == str(path)
    path.write_bytes(b"")
    assert "it is empty" in failure(folder).message


def test_metadata_with_damage_that_its_checksum_does_not_show(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few(2))
    path = metadata_of(folder)
    with path.open("rb") as stream:
        whole = [one.data for one in read_records(stream, "")][1]
    drawn = random.Random(3)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[drawn.randrange(len(whole))] = drawn.randrange(256)
        with path.open("wb") as stream:
            log = RecordWriter(stream)
            log.write(b"3")
            log.write(bytes(damaged))
        try:
            found = len(read(folder))
        except ExportError:
            found = 2
        assert found == 2


def test_parts_of_kinds_and_namespaces_as_the_service_names_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few())

    def change(overall: Any) -> None:
        spec = overall.pointer[0].spec
        spec.kind_type, spec.kind, spec.namespace_type, spec.namespace = change.now

    found = []
    for change.now in ((1, "K", 1, ""), (1, "K", 2, "ns"), (2, "", 3, ""), (2, "", 2, "ns")):
        rewrite(folder, change)
        part: Part = open_export(folder).parts[0]
        found.append((part.kinds, part.namespaces))
    assert found == [(("K",), ("",)), (("K",), ("ns",)), ((), None), ((), ("ns",))]


def test_files_are_padded_by_the_service(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few())
    for path in (metadata_of(folder), folder / open_export(folder).files[0].name):
        path.write_bytes(path.read_bytes() + bytes(-path.stat().st_size % BLOCK_BYTES))
    assert len(read(folder)) == 3


def test_a_file_that_cannot_be_read_now_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = open_export(write(tmp_path / "export", few()))

    def refuse(name: str) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(export.source, "open", refuse)
    with pytest.raises(PermissionError, match="output-0"):
        read(export)
