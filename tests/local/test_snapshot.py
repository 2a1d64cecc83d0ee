"""Copies of a file: whole, of one moment, and without a trace beside the original."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import StateError
from bulkup.local import messages as m
from bulkup.local import snapshot as module
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.file_diff import changes, counted, settle
from bulkup.local.snapshot import copy_at_rest, remove_copy, snapshot

PLACE = Partition("local", "", "")


def item(number: int, value: int, *, namespace: str = "", kind: str = "Item") -> Any:
    entity = m.Entity()
    entity.key.partition_id.project_id = "local"
    entity.key.partition_id.namespace_id = namespace
    entity.key.path.add(kind=kind, id=number)
    entity.properties["n"].integer_value = value
    return entity


def put(path: Path, *entities: Any) -> None:
    with LocalFile(path, PLACE) as file:
        file.put(entities)


def values(path: Path) -> dict[int, int]:
    with LocalFile(path, PLACE) as file:
        found = file.entities("Item")
        return {one.key.path[-1].id: one.properties["n"].integer_value for one in found}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "items"
    path.parent.mkdir()
    put(path, *(item(number, number) for number in range(1, 101)))
    return path


def test_a_copy_is_the_same_and_readable_only_by_its_owner(file: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    snapshot(file, tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert values(tmp_path / "copy") == values(file)


def test_a_folder_that_cannot_be_written_gets_no_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "items-lock").unlink()
    # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    snapshot(file, tmp_path / "copy")
    assert os.listdir(file.parent) == ["items"]
    assert len(values(tmp_path / "copy")) == 100


def test_a_file_that_changes_while_nobody_can_be_kept_from_it_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(module, "_shares_blocks", lambda *_: False)
    with pytest.raises(StateError, match="was written to while it was copied"):
        snapshot(file, tmp_path / "copy", lambda: os.utime(file))
    assert not (tmp_path / "copy").exists()


def test_a_copy_of_a_file_in_use_has_each_commit_whole_or_not(file: Path, tmp_path: Path) -> None:
    """Another thread commits pairs with equal values, all the time."""
    done = threading.Event()
    with LocalFile(file, PLACE) as served:

        def write() -> None:
            value = 1000
            while not done.is_set():
                value += 1
                served.put([item(1, value), item(100, value)])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(5):
                snapshot(file, tmp_path / f"copy-{number}")
        finally:
            done.set()
            writer.join()
    for number in range(5):
        copied = values(tmp_path / f"copy-{number}")
        assert copied[1] in (1, copied[100]), number
        assert len(copied) == 100


def test_what_a_killed_process_has_left_beside_the_file_is_copied(
    file: Path, tmp_path: Path
) -> None:
    """Its last commits are in SQLite's log."""
    with LocalFile(file, PLACE) as opened:
        opened.put([item(1, 77)])
        for name in ("items", "items-wal"):
            (tmp_path / name).write_bytes((file.parent / name).read_bytes())
    assert (tmp_path / "items-wal").stat().st_size
    snapshot(tmp_path / "items", tmp_path / "copy")
    assert values(tmp_path / "copy")[1] == 77


@pytest.mark.parametrize("content", [b"", b"import bulkup\n", b"SQLite format 3\0" + b"\0" * 100])
def test_what_is_not_a_file_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(StateError, match="is not a file of bulkup's embedded Datastore"):
        snapshot(tmp_path / "other", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_full_disk_is_told_and_nothing_half_made_is_left(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: int, to: int) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_shares_blocks", full)
    with pytest.raises(StateError, match="has no room for a copy"):
        snapshot(file, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_whoever_stops_a_copy_gets_nothing_half_made(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_shares_blocks", lambda *_: False)
    with pytest.raises(KeyboardInterrupt):
        copy_at_rest(file, tmp_path / "copy", stop)
    with LocalFile(file, PLACE), pytest.raises(KeyboardInterrupt):
        snapshot(file, tmp_path / "copy", stop)
    assert os.listdir(tmp_path) == ["data"]


# --- what differs ---


def test_the_difference_of_two_copies_is_what_was_done_to_each(file: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        copy_at_rest(file, path)
    # Both sides give new kinds and partitions numbers, in another order.
    put(one, item(1, 500), item(1, 1, kind="A"), item(1, 1, kind="B", namespace="x"))
    put(other, item(2, 600), item(1, 1, kind="B", namespace="x"), item(1, 2, kind="A"))
    put(other, item(7, 7))  # as it was
    put(other, item(9, 9, kind="Own"))
    for path in (one, other):
        settle(path)
    found = {}
    for before, after in changes(one, other, without=["Own"]):
        entity = m.Entity.FromString(before or after or b"")
        key = entity.key.path[-1].kind, entity.key.partition_id.namespace_id, entity.key.path[-1].id
        found[key] = tuple(
            None if side is None else m.Entity.FromString(side).properties["n"].integer_value
            for side in (before, after)
        )
    assert found == {
        ("Item", "", 1): (500, 1),
        ("Item", "", 2): (2, 600),
        ("A", "", 1): (1, 2),
    }
    assert [list(changes(path, path)) for path in (one, other)] == [[], []]


def test_what_is_gone_and_what_is_new(file: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    copy_at_rest(file, after)
    with LocalFile(after, PLACE) as opened:
        request = m.CommitRequest(project_id="local", mode=m.CommitRequest.NON_TRANSACTIONAL)
        request.mutations.add().delete.CopyFrom(item(5, 5).key)
        opened._call(opened._service.commit, request)
        opened.put([item(101, 101), item(1, 1, kind="New")])
    settle(after)
    found = list(changes(file, after))
    assert [(before is None, after is None) for before, after in found] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip
    assert counted(after) == [("Item", 100), ("New", 1)]
    remove_copy(after)
    assert sorted(os.listdir(tmp_path)) == ["data"]
