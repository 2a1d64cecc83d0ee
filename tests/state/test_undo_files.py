"""The files of the undo log: what is cut or damaged is not read as something else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from bulkup.core.errors import StateError
from bulkup.state.before_images import BeforeImages, Place, read_done, read_sent
from bulkup.state.undo_files import frames_in, keeps_images, log_files, undo_bytes

PLACE = Place(1, 2, 0)
IMAGES = (b"before", b"mutation", b"", b"another mutation")


def write(folder: Path, batches: int) -> Path:
    images = BeforeImages(folder)
    for number in range(1, batches + 1):
        place = Place(1, number, 0)
        id_ = images.sent(place, b"cursor", IMAGES)
        images.done(id_, place, b"cursor", [number, -number])
    images.close()
    return log_files(folder)[-1]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert not keeps_images(tmp_path)
    images = BeforeImages(tmp_path)
    assert keeps_images(tmp_path)
    assert undo_bytes(tmp_path) == 0
    id_ = images.sent(PLACE, b"cursor", IMAGES)
    images.done(id_, PLACE, b"cursor", [5, 7])
    images.done(0, PLACE, b"other")
    images.close()
    (file,) = log_files(tmp_path)
    sent, done, marked = frames_in(file)
    found = read_sent(sent)
    assert (found.id, found.place, found.end) == (id_, PLACE, b"cursor")
    assert found.images == [(b"before", b"mutation"), (b"", b"another mutation")]
    assert read_done(done) == (id_, PLACE, b"cursor", (5, 7))
    assert read_done(marked) == (0, PLACE, b"other", ())


def test_each_runner_has_a_file_and_ids_of_its_own(tmp_path: Path) -> None:
    ids = []
    for _ in range(3):
        images = BeforeImages(tmp_path)
        ids.append(images.sent(PLACE, b"", IMAGES))
        images.close()
    assert len(set(ids)) == 3
    assert ids == sorted(ids)
    assert [file.name for file in log_files(tmp_path)] == ["000001.log", "000002.log", "000003.log"]


def test_a_file_that_is_cut_anywhere_has_the_frames_before_the_cut(tmp_path: Path) -> None:
    file = write(tmp_path, 3)
    data, whole = file.read_bytes(), list(frames_in(file))
    counts = []
    for length in range(len(data) + 1):
        file.write_bytes(data[:length])
        frames = list(frames_in(file))
        assert frames == whole[: len(frames)]
        counts.append(len(frames))
    assert counts == sorted(counts)
    assert counts[-1] == len(whole)


def test_a_damaged_byte_never_changes_what_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, 3)
    data, whole = file.read_bytes(), list(frames_in(file))
    dice = random.Random(0)
    for position in range(len(b"bulkup undo log 1\n"), len(data)):
        changed = data[position] ^ dice.randint(1, 255)
        file.write_bytes(data[:position] + bytes([changed]) + data[position + 1 :])
        frames = list(frames_in(file))
        assert frames == whole[: len(frames)]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, 1)
    file.write_bytes(file.read_bytes().replace(b"log 1", b"log 2"))
    with pytest.raises(StateError, match="another version"):
        list(frames_in(file))


def test_a_folder_that_is_deleted_ends_no_run(tmp_path: Path) -> None:
    images = BeforeImages(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    images.sent(PLACE, b"", IMAGES)
    images.sent(PLACE, b"", IMAGES)
    images.close()
    assert not (tmp_path / "run").exists()
