"""Ctrl-C while async handlers wait: the first one lets them end, the second one does not."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cli.shell import Shell, ended
from tests.conftest import Server
from tests.engine.conftest import everything, fill

SOURCE = """
    import asyncio, pathlib
    from bulkup import Updater

    class Waits(Updater):
        concurrency = 4

        def get_query(self):
            return self.client.query(kind="Thing")

        async def handle_entity(self, entity):
            i = entity["i"]
            pathlib.Path(f"started-{i}").touch()
            if i == 6:
                print("at work", flush=True)
            try:
                while i == 6 and not pathlib.Path("go").exists():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pathlib.Path("cancelled").touch()
                raise
            entity["n"] += 1
            self.put(entity)

        async def aclose(self):
            pathlib.Path("closed").touch()
"""


@pytest.fixture
def at_work(embedded: Server, tmp_path: Path) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("waits.py", SOURCE)
    return shell


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_ctrl_c_lets_those_end_that_have_begun(
    embedded: Server, at_work: Shell, processes: int
) -> None:
    client = fill(embedded, "Thing", 60, n=0)
    process = at_work.begin(
        "run", "waits.py", "--processes", processes, "--batch-size", "8", "--in-flight", "1"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # a signal that is only remembered has no effect one could wait for
    assert process.poll() is None
    (at_work.folder / "go").touch()
    result = ended(process)
    assert result.code == 130, result
    numbers = [thing["n"] for thing in everything(client, "Thing")]
    assert numbers[5] == 1
    assert not (at_work.folder / "cancelled").exists()
    assert (at_work.folder / "closed").exists()
    if processes == 1:
        started = {int(path.name.partition("-")[2]) for path in at_work.folder.glob("started-*")}
        assert [i for i, n in enumerate(numbers, 1) if n] == sorted(started)
    assert at_work.bulkup("resume").code == 0
    assert [thing["n"] for thing in everything(client, "Thing")] == [1] * 60


def test_the_second_ctrl_c_cancels_them(embedded: Server, at_work: Shell) -> None:
    client = fill(embedded, "Thing", 60, n=0)
    process = at_work.begin("run", "waits.py", "--batch-size", "8")
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # as above
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    result = ended(process)
    assert result.code == 130, result
    assert time.monotonic() - began < 60
    assert (at_work.folder / "cancelled").exists()
    assert everything(client, "Thing")[5]["n"] == 0
    (at_work.folder / "go").touch()
    assert at_work.bulkup("resume").code == 0
    assert [thing["n"] for thing in everything(client, "Thing")] == [1] * 60
