"""What a piece of work costs its process: wall, CPU, memory.

Excluded: starting Python, imports, connecting to the stub's port. Included: everything else that
the process does from then to the end of the work, in all its threads, and in the processes it
starts and waits for.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")


def measured(work: Callable[[], R], host: str) -> tuple[R, dict[str, Any]]:
    os.environ["DATASTORE_EMULATOR_HOST"] = host
    cpu, began = _cpu_s(), time.perf_counter()
    result = work()
    wall = time.perf_counter() - began
    return result, {"wall_s": wall, "cpu_s": _cpu_s() - cpu, "peak_mib": _peak_mib()}


def _cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_mib() -> float:
    """Peak resident memory of this process, imports included."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
