"""The ledger that is read in the background."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.runs.target import TargetOptions
from bulkup.web import ledger
from bulkup.web.ledger import LedgerWatch


def test_an_error_that_nobody_expects_is_shown_and_the_ledger_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = LedgerWatch(TargetOptions(project="p"), tmp_path)
    asked = []

    def fails(*_: object, **__: object) -> None:
        asked.append(1)
        raise ValueError("a strange answer")

    monkeypatch.setattr(ledger, "open_ledger", fails)
    for times in (1, 2):
        view = watch.view(wait_s=10.0)
        assert view.error == "it cannot be read (ValueError: a strange answer)"
        assert len(asked) == times
        watch.expire()
