"""An export that somebody writes to while it is loaded: what was read may be of two exports."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bulkup.local.exports.errors import ExportError
from bulkup.local.exports.folder import open_export
from bulkup.local.importing import load as loading
from bulkup.local.importing.load import LoadInterruptedError, UsageError, load_export
from tests.local.exports.folders import write
from tests.local.importing.made import entity


def an_export(folder: Path, value: int) -> Path:
    """Files of some entities each; the same keys for every value."""
    made = [entity("K", n, n=value, s="x" * 100) for n in range(1, 60)]
    return write(folder, made, file_bytes=2000)


@pytest.fixture
def files(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(loading, "_WATCHED_EVERY", 1)
    folder = an_export(path.parent / "night", 1)
    found = [folder / file.name for file in open_export(folder).files]
    assert len(found) >= 3
    return found


def load_with(path: Path, change: Callable[[], object], at: int = 1) -> None:
    """Load, and change something when an entity was read."""

    def watch(entities: int, _: int) -> None:
        if entities == at:
            change()

    load_export(path, path.parent / "night", watch=watch)


def replace(path: Path, file: Path) -> None:
    """As a new export into the same folder does, with as many entities."""
    new = an_export(path.parent / "new", 2)
    (new / file.relative_to(path.parent / "night")).replace(file)


def is_gone(path: Path) -> bool:
    return not [one for one in path.parent.glob("store*") if one.name != "store-lock"]


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_file_that_is_replaced_is_not_mixed_with_the_others(
    path: Path, files: list[Path], number: int
) -> None:
    with pytest.raises(ExportError, match="written while the export was read; read it again"):
        load_with(path, lambda: replace(path, files[number]))
    assert is_gone(path)


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("to", [0, 500])
def test_a_file_that_shrinks_is_told(path: Path, files: list[Path], number: int, to: int) -> None:
    with pytest.raises(ExportError, match="written while the export was read"):
        load_with(path, lambda: os.truncate(files[number], to))
    assert is_gone(path)


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_file_that_vanishes_is_told(path: Path, files: list[Path], number: int) -> None:
    with pytest.raises(ExportError, match="removed while the export was read"):
        load_with(path, files[number].unlink)
    assert is_gone(path)


def test_a_file_that_was_changed_when_a_load_is_resumed_is_told(
    path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "BATCH_ENTITIES", 2)
    with pytest.raises(LoadInterruptedError):
        load_with(path, interrupt, at=30)
    with files[0].open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match="written since this load began; store-loading is deleted"):
        load_with(path, lambda: None)
    assert is_gone(path)
