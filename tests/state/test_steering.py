"""Steering in a run's folder: private, whole, and harmless whatever is found there."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from bulkup.core.errors import StateError
from bulkup.core.steering import UNSTEERED, Steering, Tuning, Verb
from bulkup.state.steering import (
    ANSWER_NAME,
    STEERING_NAME,
    Answer,
    SteeringFile,
    adopt_steering,
    change_steering,
    read_answer,
    read_steering,
    write_answer,
)


def paused(there: Steering) -> Steering:
    return there.after(Verb.PAUSE, by="ann@host", at=5.0) or there


def test_a_change_is_read_and_private(tmp_path: Path) -> None:
    changed = change_steering(tmp_path, paused)
    assert read_steering(tmp_path) == changed
    assert changed.is_paused
    assert changed.number == 1
    assert stat.S_IMODE((tmp_path / STEERING_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [STEERING_NAME]


def test_nobody_has_steered(tmp_path: Path) -> None:
    assert read_steering(tmp_path) is UNSTEERED
    assert read_answer(tmp_path) is None
    assert change_steering(tmp_path, lambda there: there) is UNSTEERED
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}" * 3, '{"state": "x"}', "[" * 10_000])
def test_a_damaged_file_counts_as_missing(tmp_path: Path, content: str) -> None:
    (tmp_path / STEERING_NAME).write_text(content)
    (tmp_path / ANSWER_NAME).write_text(content)
    assert read_steering(tmp_path) is UNSTEERED
    assert read_answer(tmp_path) is None
    assert change_steering(tmp_path, paused).number == 1


def test_a_pipe_does_not_block_and_a_link_leads_nowhere(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / STEERING_NAME)
    (tmp_path / ANSWER_NAME).symlink_to("/dev/zero")
    assert read_steering(tmp_path) is UNSTEERED
    assert read_answer(tmp_path) is None


def test_a_watcher_sees_each_change_once(tmp_path: Path) -> None:
    file = SteeringFile(tmp_path)
    assert file.changed() is None
    changed = change_steering(tmp_path, paused)
    assert file.changed() == changed
    assert file.changed() is None


def test_of_two_at_once_both_count(tmp_path: Path) -> None:
    def tune(field: str, value: int) -> None:
        tuning = Tuning(**{field: value})  # type: ignore[arg-type]
        change_steering(
            tmp_path, lambda there: there.after(Verb.TUNE, by="x", at=1.0, tuning=tuning) or there
        )

    threads = [
        threading.Thread(target=tune, args=args) for args in (("in_flight", 2), ("batch_size", 7))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_steering(tmp_path).tuning == Tuning(None, 2, 7)
    assert read_steering(tmp_path).number == 2


def test_what_is_older_is_not_adopted(tmp_path: Path) -> None:
    changed = change_steering(tmp_path, paused)
    assert adopt_steering(tmp_path, UNSTEERED) == changed
    later = Steering(number=9)
    assert adopt_steering(tmp_path, later) == later == read_steering(tmp_path)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write to the run state"):
        change_steering(tmp_path / "gone", paused)


def test_an_answer_is_read(tmp_path: Path) -> None:
    write_answer(tmp_path, Answer(3, "paused", 7))
    assert read_answer(tmp_path) == Answer(3, "paused", 7)
    assert stat.S_IMODE((tmp_path / ANSWER_NAME).stat().st_mode) == 0o600
