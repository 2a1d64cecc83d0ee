"""A gRPC proxy between bulkup and a real Datastore server that injects faults on request.

    bulkup --TCP--> relay --TCP--> proxy --gRPC--> server

The proxy sees every call and asks `faults` what becomes of it. The relay exists so that a cut
connection is a real one: a reset of the socket, with whatever was on it; and a silent connection
stays open.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

WORKERS = 24
"""More than a runner has calls in flight, so that a hanging call does not block the others."""

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True)
class Seen:
    """One call as it arrives at the proxy."""

    number: int
    """Counts all calls, from 1."""
    nth: int
    """Counts the calls of this method, from 1."""
    method: str
    """`Commit`, `RunQuery`, ...; `Upkeep` for a commit without users' entities: of run records or
    fences, or the removal of markers."""
    payload: bytes


def label(method: str, payload: bytes) -> str:
    """The value of `Seen.method`. All users' entities in these tests are a Thing or below one."""
    if method == "Commit" and b"Bulkup" in payload and b"Thing" not in payload:
        return "Upkeep"
    return method


@dataclass(frozen=True)
class Pass:
    """Forward it; return the server's answer."""


@dataclass(frozen=True)
class Refuse:
    """Answer with an error; the call never reaches the server."""

    code: grpc.StatusCode
    details: str = "refused by the proxy"


@dataclass(frozen=True)
class Lose:
    """Forward it; answer with an error, whatever the server answered."""

    code: grpc.StatusCode


@dataclass(frozen=True)
class Late:
    """Answer with an error now; forward it before the `after`-th call from here, or (None) at
    `release`."""

    code: grpc.StatusCode
    after: int | None


@dataclass(frozen=True)
class Twice:
    """Forward it twice; return the first or the second answer."""

    give_second: bool


@dataclass(frozen=True)
class Delay:
    """Forward it after a pause: calls overtake each other."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """Reset every connection, before or after the call is forwarded."""

    forward: bool


@dataclass(frozen=True)
class Hang:
    """Do not answer until `unhang` or until the client gives up; then forward it, if at all."""


Action = Pass | Refuse | Lose | Late | Twice | Delay | Cut | Hang
Faults = Callable[[Seen], Action]


def no_faults(seen: Seen) -> Action:
    return Pass()


@dataclass
class _Held:
    due: int | None
    method: str
    payload: bytes


class Proxy:
    """Listens on `address`. Set `faults` at any time. No state outlives `close`."""

    def __init__(self, upstream: str) -> None:
        self.faults: Faults = no_faults
        self.seen: Counter[str] = Counter()
        """Calls by their label."""
        self.done: Counter[str] = Counter()
        """Actions taken, by name, and the results of late deliveries: `Late OK`,
        `Late ALREADY_EXISTS`, ..."""
        self.last_late = ""
        """The status of the last late delivery."""
        self._lock = threading.Lock()
        self._number = 0
        self._held: list[_Held] = []
        self._released = threading.Event()
        self._channel = grpc.insecure_channel(upstream, options=_UNLIMITED)
        self._server = grpc.server(ThreadPoolExecutor(WORKERS), options=_UNLIMITED)
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._relay = Relay(port)
        self.address = f"127.0.0.1:{self._relay.port}"

    def close(self) -> None:
        self._released.set()
        self._relay.close()
        self._server.stop(grace=0).wait()
        self._channel.close()

    def cut(self) -> None:
        """Reset every open connection."""
        self._relay.cut()

    def hush(self, *, new_ones_too: bool = False) -> None:
        """Swallow what every open connection carries from now on."""
        self._relay.hush(new_ones_too=new_ones_too)

    def unhang(self) -> None:
        self._released.set()

    @property
    def held(self) -> int:
        """How many calls wait for a late delivery."""
        return len(self._held)

    def release(self) -> None:
        """Deliver every call that was held back, in order."""
        with self._lock:
            held, self._held = self._held, []
        for one in held:
            self._deliver_late(one)

    def send_again(self, method: str, payload: bytes) -> str:
        """A copy of a call arrives now; returns the name of the status it is answered with."""
        self._deliver_late(_Held(None, method, payload))
        return self.last_late

    def handle(self, method: str, payload: bytes, context: Any) -> bytes:
        """One call, in a thread of the gRPC server."""
        with self._lock:
            self._number += 1
            name = label(method, payload)
            self.seen[name] += 1
            seen = Seen(self._number, self.seen[name], name, payload)
            due = [h for h in self._held if h.due is not None and h.due <= seen.number]
            self._held = [h for h in self._held if h not in due]
        for one in due:
            self._deliver_late(one)
        action = self.faults(seen)
        with self._lock:
            self.done[type(action).__name__] += 1
            if isinstance(action, Late):
                number = None if action.after is None else seen.number + action.after
                self._held.append(_Held(number, method, payload))
        if isinstance(action, Hang):
            while context.is_active() and not self._released.wait(0.05):
                pass
            if not context.is_active():
                return b""
        try:
            answer = self._act(action, method, payload)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details() or "")
        if isinstance(action, (Refuse, Late, Lose)):
            details = action.details if isinstance(action, Refuse) else "the proxy says so"
            context.abort(action.code, details)
        return answer

    def _act(self, action: Action, method: str, payload: bytes) -> bytes:
        if isinstance(action, (Refuse, Late)):
            return b""
        if isinstance(action, Lose):
            with contextlib.suppress(grpc.RpcError):
                self._forward(method, payload)
            return b""
        if isinstance(action, Twice):
            if action.give_second:
                with contextlib.suppress(grpc.RpcError):
                    self._forward(method, payload)
                return self._forward(method, payload)
            try:
                return self._forward(method, payload)
            finally:
                with contextlib.suppress(grpc.RpcError):
                    self._forward(method, payload)
        if isinstance(action, Cut):
            if not action.forward:
                self.cut()
                return b""
            with contextlib.suppress(grpc.RpcError):
                self._forward(method, payload)
            self.cut()
            return b""
        if isinstance(action, Delay):
            self._released.wait(action.seconds)
        return self._forward(method, payload)

    def _deliver_late(self, held: _Held) -> None:
        try:
            self._forward(held.method, held.payload)
            outcome = "OK"
        except grpc.RpcError as error:
            outcome = error.code().name
        with self._lock:
            self.done[f"Late {outcome}"] += 1
            self.last_late = outcome

    def _forward(self, method: str, payload: bytes) -> bytes:
        call = self._channel.unary_unary(f"/google.datastore.v1.Datastore/{method}", None, None)
        answer: bytes = call(payload, timeout=60)
        return answer


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg, misc, unused-ignore]
    """Every method of the service, as bytes."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def service(self, details: Any) -> Any:
        method = details.method.rsplit("/", 1)[1]
        return grpc.unary_unary_rpc_method_handler(
            lambda payload, context: self._proxy.handle(method, payload, context)
        )


class Relay:
    """Copies bytes between its own port and another, and can reset all connections."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()
        self._all_silent = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return  # closed
            for one in (near, far):
                # Otherwise Nagle's algorithm and delayed ACKs add 40 ms to every call.
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (self._all_silent or source in self._silent):
                    sink.sendall(data)
        self._drop([source, sink])

    def _drop(self, sockets: list[socket.socket]) -> None:
        with self._lock:
            ours = [s for s in sockets if s in self._open]
            self._open -= set(ours)
        for one in ours:
            with contextlib.suppress(OSError):
                # Linger 0: a reset, not an orderly close.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def cut(self) -> None:
        with self._lock:
            everything = list(self._open)
        self._drop(everything)

    def hush(self, *, new_ones_too: bool = False) -> None:
        """Swallow what open connections carry from now on, both ways, and leave them open: as a NAT
        does that has forgotten them."""
        with self._lock:
            self._silent |= self._open
            self._all_silent = new_ones_too

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._listener.close()
        self.cut()


@contextlib.contextmanager
def proxy_to(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
