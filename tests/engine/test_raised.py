"""Whatever an updater raises costs one entity, or ends the command in a sentence; never the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.errors import Exit, UpdaterError
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill


class Unusual(BaseException):
    """Not an Exception, as those of some test and task libraries."""


RAISED = [
    asyncio.CancelledError("cancelled"),
    GeneratorExit("closed"),
    SystemExit(3),
    Unusual("odd"),
    MemoryError("no room"),
    RecursionError("too deep"),
    StopIteration("over"),
]


def raising(error: BaseException) -> type[Updater]:
    class Raising(Updater):
        max_failures = -1

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            entity["n"] += 1
            self.put(entity)
            if entity.key.id == 5:
                raise error

    return Raising


@pytest.mark.one_in(3)
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_is_the_failure_of_its_entity(
    server: Server, run: Run, error: BaseException
) -> None:
    client = fill(server, "Thing", 10, n=0)
    report = run(server, raising(error), batch_size=3)
    assert report.exit_code == Exit.DONE_WITH_FAILURES
    (failure,) = report.failures
    assert failure.key == "Key('Thing', 5)"
    assert failure.error.startswith(type(error).__name__)
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 4 + [0] + [1] * 5


def test_a_ctrl_c_that_a_handler_hears_ends_the_run(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 10, n=0)
    with pytest.raises(KeyboardInterrupt):
        run(embedded, raising(KeyboardInterrupt()), batch_size=3)
    assert everything(client, "Thing")[4]["n"] == 0


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_what_finish_raises_leaves_the_run_to_be_resumed(
    embedded: Server, run: Run, error: BaseException
) -> None:
    class Ending(raising(ValueError())):  # type: ignore[misc]
        def finish(self, success: bool, report: bulkup.Report) -> None:
            raise error

    fill(embedded, "Thing", 3, n=0)
    report = run(embedded, Ending)
    assert not report.success
    assert report.exit_code == Exit.FAILED
    assert "Ending.finish raised" in report.reason
    assert any("finish raised" in warning for warning in report.warnings)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_what_get_query_raises_starts_nothing(
    embedded: Server, run: Run, error: BaseException, tmp_path: Path
) -> None:
    class Asking(raising(ValueError())):  # type: ignore[misc]
        def get_query(self) -> Any:
            raise error

    with pytest.raises(UpdaterError, match="get_query of Asking raised"):
        run(embedded, Asking)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_what_init_raises_starts_nothing(
    embedded: Server, run: Run, error: BaseException, tmp_path: Path
) -> None:
    class Made(raising(ValueError())):  # type: ignore[misc]
        def __init__(self) -> None:
            raise error

    with pytest.raises(UpdaterError, match="Made"):
        run(embedded, Made)
    assert not (tmp_path / "state").exists()
