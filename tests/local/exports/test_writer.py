"""An export appears whole, for its owner only, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bulkup.core.errors import StateError, UsageError
from bulkup.local.exports import writer as writing
from bulkup.local.exports.record_log import RecordWriter
from bulkup.local.exports.writer import ExportWriter
from tests.local.exports.folders import HERE, few, read, write


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few())
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with ExportWriter(tmp_path / "export") as writer:
        for one in few():
            writer.write(one)
        assert not (tmp_path / "export").exists()
        assert all(path.name.startswith(".export.") for path in tmp_path.iterdir())
        assert writer.bytes > 100
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_of_an_export_that_ends_early(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted() -> None:
        with ExportWriter(tmp_path / "export") as writer:
            writer.write(few()[0])
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", ["write", "flush", "finish"])
def test_nothing_is_left_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if at == "write":
        monkeypatch.setattr(RecordWriter, "write", full)
    else:
        monkeypatch.setattr(writing, "_flush" if at == "flush" else "_flush_folder", full)
    with pytest.raises(StateError, match=r"No space left on device\); nothing is left of it"):
        write(tmp_path / "export", few())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    folder = write(tmp_path / "export", few())
    with pytest.raises(UsageError, match="is there already; delete it, or name another folder"):
        ExportWriter(folder)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        ExportWriter(tmp_path / "file")
    with pytest.raises(UsageError, match=r"there is no folder .*; create it first"):
        ExportWriter(tmp_path / "no" / "export")
    (tmp_path / "empty").mkdir()
    assert len(read(write(tmp_path / "empty", few()))) == 3


def test_an_entity_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    entity = HERE.entity(("K", "k"), {"p": [1]})
    entity.properties["p"].array_value.values.add().array_value.SetInParent()
    with pytest.raises(StateError, match=r"entity \[K: 'k'\] cannot be exported: .* an array in"):
        write(tmp_path / "export", [entity])
    assert list(tmp_path.iterdir()) == []
