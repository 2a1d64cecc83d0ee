"""A run that is watched at a terminal, and asked how it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bulkup.state.timeline import read_timeline
from tests.cli.shell import Shell, seed, values
from tests.cli.terminals import AtTerminal
from tests.conftest import Server

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]

MANY = 500
"""Not handled within a test, unless it is released."""
GATED = """
    import os, time
    from bulkup import Updater

    class Gated(Updater):
        '''Takes its time until the file `slowly` is gone.'''

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            if os.path.exists("slowly"):
                time.sleep(0.05)
            entity["n"] += 1
            self.put(entity)
"""
ASKING = """
    import bulkup

    @bulkup.updater(kind="Item")
    def ask(entity):
        if entity.key.id == 2:
            entity["n"] = int(input("Which number? "))
        return entity
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    return Shell(tmp_path, embedded)


@pytest.fixture
def gated(embedded: Server, shell: Shell) -> Shell:
    seed(embedded, MANY)
    shell.write("gated.py", GATED)
    shell.write("slowly", "")
    return shell


def release(shell: Shell) -> None:
    (shell.folder / "slowly").unlink()


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_a_run_is_drawn_and_leaves_its_summary_and_the_terminal_as_it_was(
    gated: Shell, embedded: Server, columns: int, rows: int
) -> None:
    with AtTerminal(gated, "run", "gated.py", "--yes", columns=columns, rows=rows) as terminal:
        terminal.until(lambda t: t.hears_keys and f" of {MANY} (" in str(t.screen))
        bar = next(line for line in terminal.screen.lines if line.startswith("Gated "))
        assert f" of {MANY} (" in bar
        assert any(line.startswith("  rate ") for line in terminal.screen.lines)
        assert any(" in flight" in line for line in terminal.screen.lines)
        assert max(map(len, terminal.screen.lines)) <= columns
        release(gated)
        assert terminal.ended() == 0
        assert terminal.is_as_it_was
        shown = "\n".join(terminal.screen.lines)
        assert "Finished: 500 entities handled" in shown
        assert not any(line.startswith("Gated ━") for line in terminal.screen.lines)
    assert [*values(embedded.client()).values()] == [1] * MANY


def test_the_key_t_prints_the_status_and_others_print_nothing(gated: Shell) -> None:
    with AtTerminal(gated, "run", "gated.py", "--yes", columns=200) as terminal:
        terminal.until(lambda t: t.hears_keys and f" of {MANY} (" in str(t.screen))
        terminal.type("x")
        terminal.type("t")
        terminal.sees(" UTC  Gated: ")
        terminal.sees("; commits: ")
        assert terminal.plain.count(" UTC  Gated: ") == 1
        release(gated)
        assert terminal.ended() == 0


def test_ctrl_z_gives_the_terminal_back_until_the_run_continues(gated: Shell) -> None:
    with AtTerminal(gated, "run", "gated.py", "--yes") as terminal:
        terminal.until(lambda t: t.hears_keys and f" of {MANY} (" in str(t.screen))
        terminal.type("\x1a")
        (pid,) = _children(terminal.process.pid)
        terminal.until(lambda t: _state(pid) == "T")
        assert terminal.is_as_it_was
        os.kill(pid, signal.SIGCONT)
        terminal.until(lambda t: t.hears_keys)
        terminal.type("t")
        terminal.sees(" UTC  Gated: ")
        release(gated)
        assert terminal.ended() == 0
        assert terminal.is_as_it_was


@pytest.mark.parametrize("signals", [1, 2], ids=["clean stop", "at once"])
def test_ctrl_c_gives_the_terminal_back(gated: Shell, signals: int) -> None:
    with AtTerminal(gated, "run", "gated.py", "--yes") as terminal:
        terminal.until(lambda t: t.hears_keys and f" of {MANY} (" in str(t.screen))
        terminal.type("\x03")
        terminal.sees("Stopping after in-flight commits")
        if signals == 2:
            terminal.type("\x03")
        else:
            release(gated)
        assert terminal.ended() == 130
        assert terminal.is_as_it_was
        shown = [*terminal.screen.scrolled, *terminal.screen.lines]
        assert any("bulkup resume" in line for line in shown)
        assert any(line.startswith("Stopping after in-flight commits") for line in shown)


def test_an_updater_that_asks_gets_what_is_typed(embedded: Server, shell: Shell) -> None:
    seed(embedded, 3)
    shell.write("ask.py", ASKING)
    with AtTerminal(shell, "run", "ask.py", "--yes") as terminal:
        terminal.sees("Which number? ")
        terminal.until(lambda t: t.is_as_it_was)
        terminal.type("42\n")
        assert terminal.ended() == 0
        assert terminal.is_as_it_was
    assert values(embedded.client())[2] == 42


def test_a_password_that_is_asked_for_is_not_heard(embedded: Server, shell: Shell) -> None:
    seed(embedded, 3)
    shell.write(
        "ask.py",
        """
        import bulkup, getpass

        @bulkup.updater(kind="Item")
        def ask(entity):
            if entity.key.id == 2:
                entity["n"] = len(getpass.getpass("Password: "))
            return entity
        """,
    )
    with AtTerminal(shell, "run", "ask.py", "--yes") as terminal:
        terminal.sees("Password: ")
        terminal.type("tt")
        terminal.until(lambda t: t.reads_lines)
        terminal.type("tx\x7ft\n")  # with a mistake that is corrected
        assert terminal.ended() == 0
        assert terminal.is_as_it_was
        assert "ttt" not in terminal.plain
        assert "x\x08" not in terminal.plain
    assert values(embedded.client())[2] == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_sigusr1_prints_the_status_without_a_terminal(gated: Shell, as_json: bool) -> None:
    options = ["--json"] if as_json else []
    process = gated.begin("run", "gated.py", "--processes", "2", *options)
    # Long after SIGUSR1 would have been deadly: the run has a timeline.
    while not [*gated.state_dir.glob("*/timeline.jsonl")]:
        assert process.poll() is None
        time.sleep(0.01)
    for pid in (process.pid, *_children(process.pid)):
        os.kill(pid, signal.SIGUSR1)
    line = process.stderr.readline()  # type: ignore[union-attr]
    while f" of {MANY} (" not in line:
        assert line, "it has ended"
        if "UTC  Gated: " in line:  # so early that it did not know how many there are
            os.kill(process.pid, signal.SIGUSR1)
        line = process.stderr.readline()  # type: ignore[union-attr]
    assert "UTC  Gated: " in line
    release(gated)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert ('"type": "summary"' in out) is as_json


def test_a_run_leaves_a_timeline(gated: Shell) -> None:
    release(gated)
    assert gated.bulkup("run", "gated.py").code == 0
    (folder,) = (path.parent for path in gated.state_dir.glob("*/checkpoint.sqlite"))
    samples = read_timeline(folder)
    assert samples[-1].counts.handled == MANY
    assert oct((folder / "timeline.jsonl").stat().st_mode)[-3:] == "600"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in found.stdout.split()]
