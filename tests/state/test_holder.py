"""A holder counts as dead only when that is certain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bulkup.state import holder
from bulkup.state.holder import has_died, this_process
from bulkup.state.record import Holder
from tests.chaos.bench import NO_PROCESS


@pytest.fixture
def killed() -> Holder:
    """A process of this machine that has ended."""
    child = subprocess.Popen(["sleep", "60"])
    began = holder._began(child.pid)
    child.kill()
    child.wait()
    assert began
    return replace(this_process(), pid=child.pid, began=began)


def test_a_killed_process_of_this_machine_is_dead(killed: Holder) -> None:
    assert has_died(killed)


def test_this_process_is_alive() -> None:
    assert not has_died(this_process())


def test_a_process_whose_id_another_process_has_is_dead() -> None:
    assert has_died(replace(this_process(), began="1"))


@pytest.mark.parametrize("part", [0, 1, 2], ids=["host", "boot", "process id namespace"])
def test_a_process_of_another_place_is_not_known_to_be_dead(killed: Holder, part: int) -> None:
    place = killed.machine.split("/")
    place[part] = "other"
    assert not has_died(replace(killed, machine="/".join(place)))


def test_a_holder_recorded_by_an_earlier_version_is_not_known_to_be_dead(killed: Holder) -> None:
    """It lacks the namespace of process ids."""
    host, boot, _ = killed.machine.split("/")
    assert not has_died(replace(killed, machine=f"{host}/{boot}"))


@pytest.mark.parametrize("missing", ["sys/kernel/random/boot_id", "self/ns/pid", "self"])
def test_without_the_means_to_tell_no_process_is_known_to_be_dead(
    killed: Holder, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "proc"
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "self/ns").mkdir(parents=True)
    shutil.copy("/proc/sys/kernel/random/boot_id", proc / "sys/kernel/random")
    (proc / "self/ns/pid").symlink_to("pid:[1]")
    if (proc / missing).is_dir():
        shutil.rmtree(proc / missing)
    else:
        (proc / missing).unlink()
    monkeypatch.setattr(holder, "PROC", proc)
    here = this_process()
    assert not has_died(replace(here, pid=NO_PROCESS, began="then"))
    assert not has_died(replace(killed, machine=here.machine))


def test_another_users_process_that_proc_hides_is_alive(
    killed: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc is mounted with hidepid=2."""

    def refuse(pid: int, signal: int) -> None:
        assert (pid, signal) == (killed.pid, 0)
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not has_died(killed)


def test_two_containers_with_one_host_name_do_not_take_each_other_for_dead() -> None:
    """Two process id namespaces on one machine, as two containers have them."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        unshare = []  # not allowed here: both are in this namespace, and one sees the other
    tell = (
        "import json, sys; from dataclasses import asdict; from bulkup.state import holder;"
        "from bulkup.state.record import Holder;"
        "print(json.dumps(asdict(holder.this_process())), flush=True);"
        "print(holder.has_died(Holder(**json.loads(sys.stdin.readline()))), flush=True);"
        "sys.stdin.read()"
    )
    processes = [
        subprocess.Popen(
            [*unshare, sys.executable, "-c", tell],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        told = []
        for process in processes:
            assert process.stdout
            told.append(Holder(**json.loads(process.stdout.readline())))
        for process, other in zip(processes, reversed(told), strict=True):
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(asdict(other)) + "\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "False"
        assert not any(has_died(one) for one in told)
        if unshare:
            assert told[0].pid == told[1].pid
            assert told[0].machine != told[1].machine
    finally:
        for process in processes:
            process.communicate(timeout=30)
