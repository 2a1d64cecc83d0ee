"""Load and dump: identical entities, and exactly the lines before a bad one."""

from __future__ import annotations

import io
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import Exit, StateError, UsageError
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.entity_json import normalize_nans
from bulkup.local.transfer import (
    BATCH_ENTITIES,
    LINE_BYTES,
    STDIN,
    Loaded,
    LoadError,
    Source,
    dump,
    load,
    load_all,
)
from tests.local.differential.budget import examples
from tests.local.differential.build import Place
from tests.local.differential.strategies import relocate, worlds

pytestmark = pytest.mark.sampled(5)

HERE = Partition("local", "", "")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LocalFile]:
    with LocalFile(tmp_path / "store", HERE) as opened:
        yield opened


def source(*lines: str | bytes, **options: str) -> Source:
    raw = b"\n".join(one if isinstance(one, bytes) else one.encode() for one in lines)
    return Source(io.BytesIO(raw), "data file", **options)


def everything(file: LocalFile) -> list[bytes]:
    return [one.SerializeToString(deterministic=True) for one in file.entities("")]


def idents(file: LocalFile, kind: str = "K") -> list[Any]:
    return [one.key.path[-1].id or one.key.path[-1].name for one in file.entities(kind)]


@given(worlds(size=15), st.booleans())
@examples(40)
def test_dumped_entities_load_identically(drawn: list[Any], lossless: bool) -> None:
    place = Partition("local", "", "ns")
    world = [relocate(Place("local", "ns"), entity) for entity in drawn]
    for entity in world:
        normalize_nans(entity.properties.values())
    with tempfile.TemporaryDirectory() as folder:
        with LocalFile(Path(folder, "one"), place) as one:
            one.put(world)
            before = everything(one)
            assert len(before) == len(world)
            lines = [line for line, _ in dump(one, lossless=lossless)]
        with LocalFile(Path(folder, "two"), place) as two:
            assert load(two, source(*lines)) == len(world)
            assert everything(two) == before
            again = [line for line, _ in dump(two, lossless=lossless)]
    assert again == lines


def test_lines_without_a_key_get_ids_and_others_keep_theirs(file: LocalFile) -> None:
    lines = ('{"n": 1}', "", '{"n": 2}', "   ", '{"__key__": ["K", "x"], "n": 3}')
    assert load_all(file, source(*lines, kind="K")) == Loaded(entities=3, with_new_ids=2)
    found = {one.properties["n"].integer_value: one.key.path[-1] for one in file.entities("K")}
    assert found[3].name == "x"
    assert found[1].id != found[2].id
    assert min(found[1].id, found[2].id) > 0


def test_a_later_entity_replaces_an_earlier_one_with_the_same_key(
    file: LocalFile,
) -> None:
    load(file, source('{"id": 1, "old": true}', '{"id": 2}', kind="K", id_field="id"))
    load(file, source('{"id": 1, "n": 1}', '{"id": 1, "n": 2}', kind="K", id_field="id"))
    assert [json.loads(line) for line, _ in dump(file, "K")] == [
        {"__key__": ["K", 1], "id": 1, "n": 2},
        {"__key__": ["K", 2], "id": 2},
    ]


def test_ids_allocated_by_another_file_are_never_allocated_again(tmp_path: Path) -> None:
    """All files allocate the same ids in the same order, so loaded ids must count as allocated."""
    with LocalFile(tmp_path / "one", HERE) as one:
        load(one, source(*['{"from": "one"}'] * 20, kind="K"))
        lines = [line for line, _ in dump(one)]
    with LocalFile(tmp_path / "two", HERE) as two:
        load(two, source(*lines))
        load(two, source(*['{"from": "two"}'] * 20, kind="K"))
        assert two.count("K") == 40


def test_byte_order_mark_windows_line_ends_and_missing_last_line_end_are_accepted(
    file: LocalFile,
) -> None:
    raw = b'\xef\xbb\xbf{"id": 1}\r\n{"id": 2}\r\n{"id": 3}'
    assert load(file, source(raw, kind="K", id_field="id")) == 3
    assert idents(file) == [1, 2, 3]


@pytest.mark.parametrize("before", [0, 1, 7, BATCH_ENTITIES, BATCH_ENTITIES + 7])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "not JSON"),
        ('{"id": 0}', "Datastore refused it"),
        ('{"id": 9, "__x__": 1}', 'property.name "__x__" is reserved'),
        ('{"id": 9, "": 1}', "empty string"),
        (json.dumps({"id": 9, "x": "é" * 600_000}), "longer than 1048487 bytes"),
    ],
    ids=("json", "key", "reserved", "empty name", "size"),
)
def test_a_bad_line_is_reported_and_exactly_the_lines_before_it_are_loaded(
    file: LocalFile, before: int, bad: str, says: str
) -> None:
    good = [f'{{"id": {n}}}' for n in range(1, before + 1)]
    after = ['{"id": 1000001}', '{"id": 1000002}']
    with pytest.raises(LoadError) as caught:
        load(file, source(*good, bad, *after, kind="K", id_field="id"))
    message = caught.value.message
    assert message.startswith(f"line {before + 1} of data file: ")
    assert says in message
    assert caught.value.exit_code == Exit.FAILED
    assert idents(file) == list(range(1, before + 1))
    if before > 1:
        assert f"The {before:,} entities before it are loaded." in message
        assert f"tail -n +{before + 1} 'data file'" in message
    elif not before:
        assert "Nothing was loaded." in message


def test_the_first_of_two_bad_lines_in_a_batch_is_reported(file: LocalFile) -> None:
    """Line 2 is refused only when the batch is written; line 4 is not JSON."""
    lines = ('{"id": 1}', '{"id": 0}', '{"id": 3}', "nonsense")
    with pytest.raises(LoadError, match=r"^line 2 of"):
        load(file, source(*lines, kind="K", id_field="id"))
    assert idents(file) == [1]


def test_input_without_line_ends_is_refused_before_it_fills_memory(file: LocalFile) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.given += len(buffer)
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    endless = Endless()
    with pytest.raises(LoadError, match=r"^line 1 .* 16 MiB"):
        load(file, Source(io.BufferedReader(endless), STDIN, "K"))
    assert endless.given < LINE_BYTES + (1 << 20)


def test_large_lines_are_written_in_batches_that_datastore_accepts(file: LocalFile) -> None:
    big = "x" * 900_000
    lines = [json.dumps({"id": n, "x": big}) for n in range(1, 31)]
    assert load(file, source(*lines, kind="K", id_field="id")) == 30
    assert [len(line) for line, _ in dump(file)] == [900_000 + len(
        json.dumps({"__key__": ["K", n], "id": n, "x": ""})) for n in range(1, 31)]  # fmt: skip


class _Interrupted(io.BytesIO):
    """Ctrl-C while a later line is read."""

    def readline(self, *args: Any) -> bytes:
        line = super().readline(*args)
        if b"stop" in line:
            signal.raise_signal(signal.SIGINT)
        return line


def test_an_interrupted_load_says_what_is_loaded_and_how_to_resume(file: LocalFile) -> None:
    count = 2 * BATCH_ENTITIES
    lines = [f'{{"id": {n}}}' for n in range(1, count + 4)] + ['{"stop": 1}']
    stream = _Interrupted("\n".join(lines).encode())
    with pytest.raises(LoadError) as caught:
        load(file, Source(stream, "data", "K", "id"))
    assert caught.value.exit_code == Exit.SIGINT
    assert f"tail -n +{count + 1} data" in caught.value.message
    assert idents(file) == list(range(1, count + 1))


def test_ctrl_c_during_a_write_waits_until_the_count_is_right(
    file: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = file.put

    def interrupted(entities: Any) -> None:
        put(entities)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(file, "put", interrupted)
    lines = [f'{{"id": {n}}}' for n in range(1, 4)]
    with pytest.raises(LoadError, match="The 3 entities before it are loaded"):
        load(file, source(*lines, kind="K", id_field="id"))
    assert idents(file) == [1, 2, 3]


def test_a_dump_is_in_key_order_and_its_limit_ignores_what_is_left_out(
    file: LocalFile,
) -> None:
    lines = [f'{{"__key__": ["{kind}", {n}]}}' for kind in "BAC" for n in (2, 1)]
    load(file, source(*lines))

    def keys(kind: str = "", **options: Any) -> list[list[Any]]:
        return [json.loads(line)["__key__"] for line, _ in dump(file, kind, **options)]

    assert keys() == [["A", 1], ["A", 2], ["B", 1], ["B", 2], ["C", 1], ["C", 2]]
    assert keys(limit=2, leave_out={"A"}) == [["B", 1], ["B", 2]]
    assert keys("A", leave_out={"A"}) == [["A", 1], ["A", 2]]
    assert keys("C", limit=1) == [["C", 1]]
    assert keys(limit=0) == []
    assert keys("D") == []


def test_a_dump_of_many_pages_has_every_entity_once(file: LocalFile) -> None:
    load(file, source(*(f'{{"id": {n}}}' for n in range(1, 2501)), kind="K", id_field="id"))
    assert [json.loads(line)["id"] for line, _ in dump(file)] == list(range(1, 2501))


def test_partitions_are_separate_and_invalid_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with LocalFile(path, Partition("local", "", "a")) as file:
        load(file, source('{"id": 1}', kind="K", id_field="id"))
        lossless = [line for line, _ in dump(file, lossless=True)]
    with LocalFile(path, Partition("local", "", "b")) as file:
        assert file.count("") == 0
        # Entities dumped in one namespace are loaded into the target namespace.
        load(file, source(*lossless))
        assert idents(file) == [1]
        assert next(file.entities("")).key.partition_id.namespace_id == "b"
    with pytest.raises(UsageError, match="namespace"):
        LocalFile(path, Partition("local", "", "no/such"))
    with pytest.raises(UsageError, match="default"):
        LocalFile(path, Partition("local", "(default)", ""))
    with LocalFile(path, HERE), pytest.raises(StateError, match="already open"):
        LocalFile(path, HERE)
