"""Makes the exports in `data/`: those of both of Google's emulators, of made-up entities.

    python -m tests.local.exports.make

They are committed for machines without Java. Beside each is what the emulator served when it made
the export, one entity a line, in the lossless form of `bulkup local dump`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bulkup.local.entity_json import to_line
from bulkup.local.exports.metadata import OVERALL_SUFFIX
from tests.emulators import emulator
from tests.local.exports import emulated
from tests.local.exports.values import entities, key_bytes

DATA = Path(__file__).with_name("data")
PROJECT = "made-up"
SERVED = "served.jsonl"


def make(server: str, host: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    emulated.store(host, PROJECT, entities(PROJECT, server, large=False))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "export"
        emulated.export(server, host, PROJECT, out)
        (file,) = out.glob("*/*" + OVERALL_SUFFIX)
        # LF's name has colons, which not every file system takes.
        file.rename(file.with_name(folder.name + OVERALL_SUFFIX))
        shutil.copytree(file.parent, folder)
    lines = [
        to_line(one, lossless=True)[0]
        for one in sorted(emulated.served(host, PROJECT), key=key_bytes)
    ]
    (folder / SERVED).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for server in ("LF", "FS"):
        with emulator(server) as host:
            make(server, host, DATA / server.lower())
