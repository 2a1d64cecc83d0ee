"""A place for a file to load, and small batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.local.importing import load as loading


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BATCH_ENTITIES", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"
