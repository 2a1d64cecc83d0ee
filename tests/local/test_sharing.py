"""A file that a server holds is read through that server, which is found in the lock file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bulkup.core.errors import StateError
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.served import ServedFile
from bulkup.local.server import DatastoreServer
from bulkup.local.sharing import lock_path, served_by

HERE = Partition("local", "", "")


def entity(number: int) -> object:
    from bulkup.local import messages as m

    made = m.Entity()
    made.key.partition_id.project_id = "local"
    made.key.path.add(kind="K", id=number)
    made.properties["n"].integer_value = number
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with LocalFile(path, HERE) as file:
        file.put([entity(number) for number in range(1, 1001)])
    return path


def test_a_served_file_is_read_through_its_server(path: Path) -> None:
    with DatastoreServer(path) as server:
        assert stat.S_IMODE(lock_path(path).stat().st_mode) == 0o600
        served = served_by(path)
        assert served is not None
        assert (served.pid, served.host) == (os.getpid(), server.host)
        with ServedFile(path, HERE, served) as file:
            assert [one.key.path[0].id for one in file.entities("K")] == list(range(1, 1001))
            assert file.count("K") == 1000
            assert file.names("__kind__") == ["K"]
    assert served_by(path) is None
    with LocalFile(path, HERE) as file:
        assert file.count("K") == 1000


def test_a_server_that_ends_meanwhile_is_named(path: Path) -> None:
    with DatastoreServer(path):
        served = served_by(path)
        assert served is not None
        file = ServedFile(path, HERE, served)
    with file, pytest.raises(StateError, match="no longer answers"):
        file.count("K")


@pytest.mark.parametrize("words", ["", "x", "ME", "0 8081", "-1 8081", "ME 99999", "9" * 40])
def test_words_that_name_no_server_are_not_followed(
    path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkup.local.sharing._WAIT_S", 0.0)
    with DatastoreServer(path):
        lock_path(path).write_text(words.replace("ME", str(os.getpid())))
        assert served_by(path) is None


def test_a_process_without_the_lock_is_not_asked(path: Path) -> None:
    lock_path(path).write_text(f"{os.getpid()} 8081")
    assert served_by(path) is None


def test_a_lock_file_that_others_can_write_to_is_not_believed(path: Path) -> None:
    with DatastoreServer(path):
        os.chmod(lock_path(path), 0o666)
        assert served_by(path) is None
        os.chmod(lock_path(path), 0o600)
        assert served_by(path) is not None
        lock = lock_path(path).rename(path.with_name("elsewhere"))
        lock_path(path).symlink_to(lock)
        assert served_by(path) is None
