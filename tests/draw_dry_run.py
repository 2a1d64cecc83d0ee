"""Draws the picture of a dry run that is at the top of the README: `python -m tests.draw_dry_run`.

The picture is what `bulkup run -n` prints on a terminal. `test_docs.py` compares it with that.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "dry-run.svg"
COMMAND = "bulkup run -n full_name.py --local people.db"
PEOPLE = """\
{"id": 1815, "first": "Ada", "last": "Lovelace"}
{"id": 1906, "first": "Grace", "last": "Hopper", "full_name": "grace hopper"}
{"id": 1912, "first": "Alan", "last": "Turing"}
"""
COLUMNS = 86


def dry_run(folder: Path) -> str:
    """What the dry run of the README's first updater prints on a terminal."""
    (updater, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (folder / "full_name.py").write_text(updater)
    (folder / "people.jsonl").write_text(PEOPLE)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color", "COLUMNS": "200", "LANG": "C.UTF-8",
    }  # fmt: skip
    load = "local load people.db people.jsonl --kind Person --id-field id"
    for words in (load, COMMAND.partition(" ")[2]):
        theirs, ours = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "bulkup", *words.split()],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=ours, stderr=ours,
        )  # fmt: skip
        os.close(ours)
        printed = _read(theirs)
        if process.wait() != 0:
            raise RuntimeError(printed)
    # The progress bar, which was there for a moment.
    return re.sub(r"\x1b\[\?25l.*\x1b\[2K", "", printed, flags=re.S)


def _read(descriptor: int) -> str:
    parts = []
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # the other side was closed
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode().replace("\r\n", "\n")


def shown(printed: str, folder: Path) -> Text:
    """The part of it that the picture has, without what changes from day to day."""
    until_table = printed.partition("\n\x1b[2m  Handled")[0]
    inside = until_table.replace(f"{folder.resolve()}/", "")
    return Text.from_ansi(re.sub(r"in \d+\.\d s", "in 0.1 s", inside.rstrip()))


def draw(text: Text) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {COMMAND}\n"))
    console.print(text)
    svg = console.export_svg(title="A dry run", unique_id="dry-run")
    return re.sub(r" *@font-face \{.*?\}\n", "", svg, flags=re.S)  # they are on another host


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        PICTURE.write_text(draw(shown(dry_run(place), place)))


if __name__ == "__main__":
    main()
