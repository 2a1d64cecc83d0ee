"""gRPC is told to leave forks alone; a program that makes that impossible is warned."""

from __future__ import annotations

import os

import pytest

from bulkup.core import grpc_forks
from bulkup.core.stop import default_in_forks


@pytest.mark.parametrize(
    ("environ", "loaded", "ends", "is_safe"),
    [
        ({}, (), "0", True),
        ({}, ("grpc",), "0", False),
        ({"GRPC_ENABLE_FORK_SUPPORT": "1"}, (), "1", True),
        ({"GRPC_ENABLE_FORK_SUPPORT": "0"}, ("grpc",), "0", True),
    ],
    ids=["first", "too late", "the user's", "in time"],
)
def test_grpc_is_told_before_it_is_loaded(
    environ: dict[str, str], loaded: tuple[str, ...], ends: str, is_safe: bool
) -> None:
    assert grpc_forks.leave_forks_alone(environ, loaded) == is_safe
    assert environ == {"GRPC_ENABLE_FORK_SUPPORT": ends}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python's own, too
def test_a_program_that_imported_grpc_first_is_warned_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpc_forks, "_is_safe", False)

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    fork()  # no run is working: not our affair
    with default_in_forks({}):
        with pytest.warns(RuntimeWarning, match="import bulkup before google.cloud and grpc"):
            fork()
        fork()  # a second warning would fail the test
