"""A stand-in of Cloud Storage's JSON API on this machine: buckets that are folders."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Buckets:
    """What is served, what was asked for, and what goes wrong."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ranges: list[tuple[str, str]] = []
        """Object and `Range` header of each download."""
        self.statuses: list[int] = []
        """Answers to the next downloads; 0: cut off in the middle. Empty: the content."""
        self.generation = 1
        self.listing_status = 0


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, Buckets]]:
    """Yields the value of STORAGE_EMULATOR_HOST."""
    buckets = Buckets(root)
    handler = type("Handler", (_Handler,), {"buckets": buckets})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", buckets
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    buckets: Buckets
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        head, _, path = url.path.removeprefix("/download").partition("/storage/v1/b/")
        bucket, _, rest = path.partition("/o")
        folder = self.buckets.root / bucket
        if head or not folder.is_dir():
            self._answer(404, {"error": {"message": "The specified bucket does not exist."}})
        elif not rest:
            self._list(folder, query)
        elif url.path.startswith("/download"):
            self._download(folder, unquote(rest[1:]), query)
        else:
            file = folder / unquote(rest[1:])
            if file.is_file():
                self._answer(200, self._resource(folder, file))
            else:
                self._answer(404, {"error": {"message": "No such object"}})

    def _list(self, folder: Path, query: dict[str, str]) -> None:
        if self.buckets.listing_status:
            self._answer(self.buckets.listing_status, {"error": {"message": "no\nsecond line"}})
            return
        prefix = query.get("prefix", "")
        names = sorted(
            str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()
        )
        found = [name for name in names if name.startswith(prefix)]
        folders: set[str] = set()
        if query.get("delimiter"):
            below = [name[len(prefix) :] for name in found]
            folders = {prefix + name.partition("/")[0] + "/" for name in below if "/" in name}
            found = [prefix + name for name in below if "/" not in name]
        items = [self._resource(folder, folder / name) for name in found]
        at, size = int(query.get("pageToken", 0)), 2
        answer: dict[str, Any] = {"items": items[at : at + size], "prefixes": sorted(folders)}
        if at + size < len(items):
            answer["nextPageToken"] = str(at + size)
        self._answer(200, answer)

    def _resource(self, folder: Path, file: Path) -> dict[str, Any]:
        return {
            "name": str(file.relative_to(folder)), "bucket": folder.name,
            "size": str(file.stat().st_size), "generation": str(self.buckets.generation),
        }  # fmt: skip

    def _download(self, folder: Path, name: str, query: dict[str, str]) -> None:
        asked = self.headers.get("Range", "")
        self.buckets.ranges.append((name, asked))
        status = self.buckets.statuses.pop(0) if self.buckets.statuses else -1
        if status > 0:
            self._answer(status, {"error": {"message": f"answer {status}"}})
            return
        if query.get("ifGenerationMatch", "1") != str(self.buckets.generation):
            self._answer(412, {"error": {"message": "conditionNotMet"}})
            return
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        content = (folder / name).read_bytes()
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(part[: len(part) // 2] if status == 0 else part)
        self.close_connection = status == 0

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
