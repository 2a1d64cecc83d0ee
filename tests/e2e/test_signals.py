"""Stopped by Ctrl-C (once and twice) or SIGTERM, and resumed by the command that is printed."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bulkup.datastore.retry import FIRST_ANSWER_S
from tests.cli.shell import BUMP, TIMEOUT_S, Shell, ended, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.client_side

COUNT = 40


def slow_bump(shell: Shell, seconds: float = 0.02, *, only_the_fifth: bool = False) -> Path:
    """Prints `at work` at its fifth entity, and takes a while."""
    return shell.write(
        "slow.py",
        BUMP + "        import time\n"
        "        if entity.key.id == 5: print('at work', flush=True)\n"
        f"        if entity.key.id == 5 or not {only_the_fifth}: time.sleep({seconds})\n",
    )


def at_work(shell: Shell, *args: object) -> subprocess.Popen[str]:
    process = shell.begin(*args)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


def test_ctrl_c_ends_cleanly_and_the_printed_command_continues(
    shell: Shell, server: Server
) -> None:
    signalled_and_resumed(shell, server, signal.SIGINT, 130)


def test_sigterm_ends_just_as_cleanly(lf_shell: Shell, lf: Server) -> None:
    signalled_and_resumed(lf_shell, lf, signal.SIGTERM, 143)


def signalled_and_resumed(
    shell: Shell, server: Server, signalled: signal.Signals, code: int
) -> None:
    client = seed(server, COUNT)
    slow_bump(shell)
    process = at_work(shell, "run", "slow.py", "--batch-size", "3", "-p", "step=2")
    process.send_signal(signalled)
    result = ended(process)
    assert result.code == code, result
    done = sum(values(client).values()) // 2
    assert 4 <= done < COUNT
    assert f"{done} entities handled, {done} written" in result.out
    (line,) = [x for x in result.out.splitlines() if "bulkup resume" in x and "with" in x.lower()][
        -1:
    ]
    command = shlex.split(line[line.index("bulkup resume") :])
    (row,) = shell.bulkup("list", "--json").lines
    assert (row["state"], row["handled"]) == ("interrupted", done)
    resumed = shell.bulkup(*command[1:])
    assert resumed.code == 0, resumed
    assert values(client) == dict.fromkeys(range(1, COUNT + 1), 2)


def test_a_second_ctrl_c_ends_at_once_and_nothing_is_lost(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, COUNT)
    slow_bump(lf_shell, seconds=3000, only_the_fifth=True)
    process = at_work(lf_shell, "run", "slow.py", "--batch-size", "3")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # a signal that is only remembered has no effect one could wait for
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    result = ended(process)  # in less time than the entity in progress takes
    assert result.code == 130, result
    assert "bulkup resume" in result.err
    assert "Traceback" not in result.err
    slow_bump(lf_shell, seconds=0)
    resumed = lf_shell.bulkup("resume")
    assert resumed.code == 0, resumed
    assert values(client) == dict.fromkeys(range(1, COUNT + 1), 1)


def test_ctrl_c_in_a_dry_run_promises_no_resume(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, COUNT)
    slow_bump(lf_shell)
    process = at_work(lf_shell, "run", "-n", "slow.py", "-q")
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.code == 130, result
    assert "nothing was written" in result.out
    assert "bulkup resume" not in result.out + result.err
    assert set(values(client).values()) == {0}
    assert lf_shell.runs() == []


def test_ctrl_c_before_the_server_answers_starts_nothing(lf_shell: Shell) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        lf_shell.environment["DATASTORE_EMULATOR_HOST"] = f"127.0.0.1:{silent.getsockname()[1]}"
        process = lf_shell.start("run", "bump.py")
        silent.settimeout(TIMEOUT_S)
        connection, _ = silent.accept()  # it has started to connect
        with connection:
            process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            result = ended(process)
    assert time.monotonic() - begun < FIRST_ANSWER_S
    assert result.code == 130
    assert "Traceback" not in result.err
    assert lf_shell.runs() == []
    # Nothing was started, so there is nothing to resume.
    assert "bulkup resume" not in result.err
