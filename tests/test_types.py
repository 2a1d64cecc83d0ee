"""mypy and pyright accept the example updaters, and the Python of the README and the docs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # 8 s of CPU; `.ci/run` runs them for every change

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?:<!-- (\S+\.py) -->\n+)?```python\n(?:# (\S+\.py)\n)?(.*?)```", re.S)
"""A Python block, with the name of its file, if the page says it."""

OTHERS = ("apache_beam", "httpx")
"""Libraries that an example uses, and that bulkup's own tests do not need."""

CONFIG = """\
[mypy]
strict = True
explicit_package_bases = True
# Readers need not annotate what they write, and the pages are read sooner without.
disallow_untyped_calls = False
disallow_untyped_defs = False
disallow_incomplete_defs = False
# ndb says nothing about its types, and its models are subclasses.
disallow_subclassing_any = False

[mypy-updaters.*]
disallow_untyped_calls = True
disallow_untyped_defs = True
disallow_incomplete_defs = True

# Google's clients say that they are typed, and most of their functions are not.
[mypy-google.*]
ignore_missing_imports = True
follow_imports = skip
"""


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder with all Python blocks, the updaters, and handlers of every form."""
    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "updaters", folder / "updaters")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start(3))
            name = block[1] or block[2] or f"{page.stem.replace('-', '_')}_{line}.py"
            (folder / name).write_text(block[3])
    shutil.copy(ROOT / "tests" / "handler_forms.py", folder)
    assert len(list(folder.glob("*.py"))) > 10
    for library in OTHERS:
        stub = "from typing import Any\n\ndef __getattr__(name: str) -> Any: ...\n"
        (folder / f"{library}.pyi").write_text(stub)
    return folder


def test_mypy_accepts_the_examples(examples: Path) -> None:
    (examples / "mypy.ini").write_text(CONFIG)
    assert_accepted(["mypy", "."], examples)


def test_pyright_accepts_the_examples(examples: Path) -> None:
    config = {"include": ["."], "typeCheckingMode": "standard"}
    (examples / "pyrightconfig.json").write_text(json.dumps(config))
    assert_accepted(["pyright", "--pythonpath", sys.executable], examples)


def assert_accepted(command: list[str], folder: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert found.returncode == 0, found.stdout + found.stderr
