"""A server that reports are posted to: willing, failing, hanging or redirecting."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T00SECRET"
Answer = tuple[int, dict[str, str], bytes]
OK: Answer = (200, {}, b"ok")


@dataclass
class Hook:
    """A server that gives these answers, one after another, and then the last one again."""

    answers: list[Answer | None]
    """None: it hangs until the test is over."""
    got: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    """Path, headers and body of each request."""
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{SECRET}?token={SECRET}"


Start = Callable[..., Hook]


@contextmanager
def hooks() -> Iterator[Start]:
    running: list[tuple[ThreadingHTTPServer, Hook]] = []

    def start(*answers: Answer | None) -> Hook:
        hook = Hook(list(answers))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((self.path, dict(self.headers), json.loads(body)))
                answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                if answer is None:
                    hook.over.wait(60)
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        hook.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append((server, hook))
        return hook

    try:
        yield start
    finally:
        for server, hook in running:
            hook.over.set()
            server.shutdown()
            server.server_close()
