"""The process that holds a run: who it is, and whether it is still alive."""

from __future__ import annotations

import getpass
import os
import platform
import uuid
from pathlib import Path

from bulkup.state.record import Holder

PROC = Path("/proc")


def this_process() -> Holder:
    return Holder(
        runner=uuid.uuid4().hex,
        who=f"{_user()}@{platform.node() or 'localhost'}",
        machine=_place() or platform.node(),
        pid=os.getpid(),
        began=_began(os.getpid()) or "",
    )


def has_died(holder: Holder) -> bool:
    """Whether it is certain that the process has ended.

    It is never certain for a process on another machine or in another container, even one with the
    same host name: the same process id means another process there. Only the lease decides then.
    """
    place = _place()
    return place is not None and holder.machine == place and _has_ended(holder)


def boot_id() -> str:
    """Identifies this boot of this machine. All its processes see the same time since boot."""
    return _read_boot_id() or platform.node()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _place() -> str | None:
    """Where process ids mean the same as here: host, boot and PID namespace.

    None if that cannot be determined, as on systems without /proc.
    """
    boot, namespace = _read_boot_id(), _pid_namespace()
    return f"{platform.node()}/{boot}/{namespace}" if boot and namespace else None


def _read_boot_id() -> str | None:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        # A /proc mounted from outside a container shows the process ids from outside.
        if os.readlink(PROC / "self") != str(os.getpid()):
            return None
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return None


def _has_ended(holder: Holder) -> bool:
    began = _began(holder.pid)
    if began is not None:
        return began != holder.began
    try:
        os.kill(holder.pid, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False  # it exists, but /proc hides it, as it may for other users' processes


def _began(pid: int) -> str | None:
    """When a process started, in the system's own format; None if that is not known."""
    try:
        # The command's name, in brackets, may contain anything.
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
