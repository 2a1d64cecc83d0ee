"""The file of `bulkup bundle`: a zip archive of a few JSON files with fixed names.

Archives come from strangers. So names in an archive never decide where something is unpacked, and
no more is read than a bundle can hold.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkup.core.errors import UsageError
from bulkup.core.output_file import cannot_write
from bulkup.core.version import __version__
from bulkup.core.visible import visible

FORMAT = 1
HEAD = "bundle.json"
PARTS = (
    HEAD, "environment.json", "run.json", "failures.jsonl", "log_lines.jsonl", "events.jsonl",
    "timeline.jsonl",
)  # fmt: skip
"""The order matters: `is_bundle` expects the head first."""
MAX_PART_BYTES = 10_000_000
"""The size of one part, unpacked."""
MAX_FILE_BYTES = 50_000_000
MAX_MEMBERS = 100
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""A fixed time, so that the same content makes the same file."""
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    RecursionError, OverflowError,
)  # fmt: skip
"""What Python's `zipfile` raises for archives that are damaged, encrypted or not supported."""


@dataclass(frozen=True)
class Bundle:
    run_id: str
    version: str
    """The version of bulkup that made it; untrusted."""
    has_values: bool
    parts: Mapping[str, bytes]
    """The parts by name, without the head; untrusted. A missing part counts as empty."""

    def part(self, name: str) -> bytes:
        return self.parts.get(name, b"")


def is_bundle(beginning: bytes) -> bool:
    """Whether a file with this beginning is a bundle."""
    return beginning.startswith(b"PK\x03\x04") and beginning[30:].startswith(HEAD.encode())


def write_bundle(path: Path, bundle: Bundle) -> int:
    """Write the whole file or nothing, with mode 0600, and return its size. Raises StateError."""
    head = {
        "format": FORMAT,
        "bulkup": bundle.version,
        "run_id": bundle.run_id,
        "values": bundle.has_values,
    }
    parts = {**bundle.parts, HEAD: (json.dumps(head) + "\n").encode()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in PARTS:
            if name in parts:
                info = zipfile.ZipInfo(name, _LONG_AGO)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system, info.external_attr = 3, 0o600 << 16
                archive.writestr(info, parts[name])
    data = packed.getvalue()
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error
    return len(data)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle. Raises UsageError, with a message of one sentence, for any other file."""
    shown = visible(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {shown} ({error.strerror or error}); name a bundle, or a run"
        ) from error
    if not is_bundle(data):
        raise UsageError(f"{shown} is not a bundle of bulkup; `bulkup bundle RUN` makes one")
    if len(data) > MAX_FILE_BYTES:
        raise damaged(path)
    try:
        return _parsed(data, shown)
    except (*_DAMAGE, AttributeError, KeyError, TypeError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> UsageError:
    return UsageError(f"the bundle {visible(str(path))} is damaged; ask for it again")


def _parsed(data: bytes, shown: str) -> Bundle:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(members) > MAX_MEMBERS or len({*names}) != len(names):
            raise ValueError("members")
        # Other members come from a later version or from somebody else, and are ignored.
        known = {name: _read(archive, name) for name in PARTS if name in names}
    head: dict[str, Any] = json.loads(known.pop(HEAD))
    version, run_id = head["bulkup"], head["run_id"]
    if not isinstance(version, str) or not isinstance(run_id, str):
        raise TypeError("head")
    if head["format"] != FORMAT:
        raise UsageError(
            f"{shown} was made by bulkup {visible(version[:40])}, in a form that this version "
            f"({__version__}) does not know; read it with that version"
        )
    return Bundle(run_id, version, head["values"] is True, known)


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one part. The size is limited, whatever the archive says about it."""
    with archive.open(name) as file:
        data = file.read(MAX_PART_BYTES + 1)
    if len(data) > MAX_PART_BYTES:
        raise ValueError("size")
    return data
