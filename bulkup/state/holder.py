"""The process that holds a run: who it is, and whether it is still alive."""

from __future__ import annotations

import getpass
import os
import platform
import uuid
from pathlib import Path

from bulkup.state.record import Holder


def this_process() -> Holder:
    return Holder(
        runner=uuid.uuid4().hex,
        who=f"{_user()}@{platform.node() or 'localhost'}",
        machine=_machine(),
        pid=os.getpid(),
        began=_began(os.getpid()) or "",
    )


def has_died(holder: Holder) -> bool:
    """Whether it was a process of this machine and has ended. Of a process elsewhere, and of one in
    another container, this machine knows nothing: False."""
    return holder.machine == _machine() and (_began(holder.pid) or "") != holder.began


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _machine() -> str:
    try:
        return f"{platform.node()}/{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return platform.node()


def _began(pid: int) -> str | None:
    """When a process started, in its system's own terms; None when there is no such process."""
    try:
        # The command's name, in brackets, may contain anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
