"""Google's own emulators: their exports are read as they serve them, and they import ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkup.local import messages as m
from bulkup.local.exports.encode import encode
from bulkup.local.exports.entity_proto import EntityProto
from bulkup.local.exports.folder import Database, open_export
from bulkup.local.exports.record_log import read_records
from bulkup.local.exports.writer import ExportWriter
from tests.conftest import Server
from tests.local.exports import emulated
from tests.local.exports.values import after_export, comparable, entities


@pytest.fixture(params=["LF", "FS"])
def emulator(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param.lower())
    return server


def test_an_export_is_what_the_emulator_serves(emulator: Server, tmp_path: Path) -> None:
    made = entities(emulator.project, emulator.name)
    emulated.store(emulator.host, emulator.project, made)
    stored = emulated.served(emulator.host, emulator.project)
    assert len(stored) == len(made)

    emulated.export(emulator.name, emulator.host, emulator.project, tmp_path / "export")
    export = open_export(tmp_path / "export")
    assert export.promised_entities == len(made)
    assert export.promised_bytes == export.bytes
    assert export.origin == Database(emulator.project)
    found = [one.entity for one in export.entities()]
    assert comparable(found) == comparable([after_export(one) for one in stored])

    # Its records are written again to the byte, but for the order of the properties.
    for file in export.files:
        with export.source.open(file.name) as stream:
            for record, entity in zip(read_records(stream, file.name), found, strict=True):
                assert encode(entity) == in_order(record.data)


def in_order(record: bytes) -> bytes:
    """An exported entity with its properties in the order of their names."""
    proto = EntityProto.FromString(record)
    for group in (proto.property, proto.raw_property):
        properties = sorted(group, key=lambda prop: prop.name)
        for prop in properties:
            if prop.meaning == 19:
                prop.value.string = in_order(prop.value.string)
        del group[:]
        group.extend(properties)
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("kinds", [(), ("Value", "All", "Path", "Leaf", "Large", "Nothing/?")])
def test_an_emulator_imports_what_is_written(
    emulator: Server, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    made = entities(emulator.project, emulator.name)
    lossy = [after_export(one) for one in made]
    with ExportWriter(tmp_path / "export", kinds=kinds, file_bytes=20_000) as writer:
        for one in made:
            writer.write(one)
    assert len(open_export(tmp_path / "export").files) > 2

    emulated.load(emulator.name, emulator.host, emulator.project, tmp_path / "export")
    served = emulated.served(emulator.host, emulator.project)
    # Emulators import indexed keys of every project as keys of the one that imports.
    served, expected = ([in_one_project(one) for one in some] for some in (served, lossy))
    assert comparable(served) == comparable(expected)


def in_one_project(message: Any) -> Any:
    """An entity with all its keys moved into one project."""
    if isinstance(message, m.Key):
        message.partition_id.project_id = "one"
        return message
    for field, content in message.ListFields():
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                parts = list(content.values())
            else:
                parts = list(content) if field.is_repeated else [content]
            for part in parts:
                in_one_project(part)
    return message
