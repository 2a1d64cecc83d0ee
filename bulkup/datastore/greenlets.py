"""Makes gRPC work with gevent, if an updater or its program uses it.

`gevent.monkey.patch_all()` replaces Python's threads with greenlets, all in one real thread. gRPC
waits in that thread, and so silently stops all greenlets, unless it is told about gevent before it
opens its first channel. (eventlet replaces threads, too, but gRPC works with it.)
"""

from __future__ import annotations

import _thread
import sys
from types import BuiltinFunctionType

from bulkup.core.errors import UpdaterError

_grpc_knows = False
connection_is_lost = False
"""No call will be answered any more."""


def threads_are_replaced() -> bool:
    return not isinstance(_thread.start_new_thread, BuiltinFunctionType)


def tell_grpc() -> None:
    """Tell gRPC about gevent, if it is used. Call this before a channel is opened."""
    global _grpc_knows
    if _is_gevent() and not _grpc_knows:
        from grpc.experimental import gevent

        gevent.init_gevent()
        _grpc_knows = True


def check_not_replaced() -> None:
    """Raises UpdaterError if threads were replaced after a channel was opened: the next call would
    never be answered."""
    global connection_is_lost
    if threads_are_replaced() and not _grpc_knows and _is_gevent():
        connection_is_lost = True
        raise UpdaterError(
            "the updater has called gevent.monkey.patch_all when bulkup was connected already, and "
            "the connection does not survive that; call it at the top of the updater's file"
        )


def _is_gevent() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
