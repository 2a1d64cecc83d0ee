"""Keeps gRPC out of processes that an updater forks. Import this before anything imports grpc.

gRPC's C core handles every fork unless it is told otherwise when it is loaded: it starts its
threads in the new process as well. There they keep using the run's connections, and about one
process in a hundred dies of SIGSEGV. If it is told to leave forks alone, it does nothing in the new
process, which never calls it (`stop.refuse_in_fork`).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Container, MutableMapping

_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"


def leave_forks_alone(
    environ: MutableMapping[str, str] = os.environ, loaded: Container[str] = sys.modules
) -> bool:
    """Tell gRPC to leave forks alone, unless the user has set the variable. Returns False if gRPC
    was loaded too early."""
    if _SWITCH in environ:
        return True
    environ[_SWITCH] = "0"
    return "grpc" not in loaded


_is_safe = leave_forks_alone()


def warn_if_unsafe() -> None:
    """Warn once, before a fork, if the program has imported grpc before bulkup."""
    global _is_safe
    if not _is_safe:
        _is_safe = True
        warnings.warn(
            "this process is about to fork, and grpc was imported before bulkup, so the new "
            "process may crash; import bulkup before google.cloud and grpc, or set "
            f"{_SWITCH}=0 in the environment",
            RuntimeWarning,
            stacklevel=2,
        )
