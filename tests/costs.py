"""`pytest --costs`: the CPU that tests took, with the processes they started, and the servers."""

from __future__ import annotations

import os
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

BEGAN = pytest.StashKey[float]()
SERVERS = {"bulkup.local": "EM", "firestore_in_datastore": "LF", "consistency": "L"}
"""What a server has in its command line; FS has none of these."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="print the CPU seconds of each file")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[BEGAN] = _seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "teardown":
        report.user_properties.append(("cpu_s", _seconds() - item.stash[BEGAN]))
    return report


def _seconds() -> float:
    """Of this process and of those that it has waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in whose)


def show(terminal: pytest.TerminalReporter, keeper_pid: int) -> None:
    costs: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for reports in terminal.stats.values():
        for report in reports:
            given = dict(getattr(report, "user_properties", ()))
            if "cpu_s" in given:
                costs[report.location[0]] += given["cpu_s"]
                count[report.location[0]] += 1
    terminal.section("CPU seconds")
    for name, seconds in costs.most_common():
        terminal.write_line(f"{seconds:7.1f} {count[name]:5} {name}")
    terminal.write_line(f"{costs.total():7.1f} {count.total():5} all tests")
    for name, seconds in _of_servers(keeper_pid):
        terminal.write_line(f"{seconds:7.1f}       {name}")


def _of_servers(keeper_pid: int) -> list[tuple[str, float]]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            command = (process / "cmdline").read_text()
        except OSError:
            continue  # it ended just now
        if int(fields[1]) == keeper_pid:
            name = next((SERVERS[part] for part in SERVERS if part in command), "FS")
            ticks = int(fields[11]) + int(fields[12])
            found.append((name, ticks / os.sysconf("SC_CLK_TCK")))
    return found
