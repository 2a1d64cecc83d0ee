"""A disk that is full is no bug of bulkup."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from bulkup.cli import call, cli

NO_SPACE = os.strerror(errno.ENOSPC)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
@pytest.mark.parametrize("words", [["updaters"], ["help"], ["run", "--help"]])
def test_a_full_disk_behind_standard_output_is_a_sentence(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert call(words) == 1
    assert capsys.readouterr().err == (
        f"Error: cannot write all of the output ({NO_SPACE}); free disk space, then type the "
        "command again\n"
    )


def test_a_file_for_which_there_is_no_space_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, NO_SPACE, "runs/\x1b[2J")

    monkeypatch.setattr(cli, "main", main)
    assert call(["list", "--json"]) == 1
    printed = capsys.readouterr()
    assert f"Error: cannot write 'runs/\\x1b[2J' ({NO_SPACE}); free disk space" in printed.err
    assert '"exit_code": 1' in printed.out


def test_any_other_error_of_the_system_is_still_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(cli, "main", main)
    assert call(["list"]) == 1
    assert "this is a bug in bulkup" in capsys.readouterr().err
