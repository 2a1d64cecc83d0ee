"""A link of a chain is followed only if the updater's code names it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from bulkup.authoring.loader import load
from bulkup.authoring.named_successors import follow
from bulkup.authoring.successors import relative_spec
from bulkup.core.errors import MismatchError

OTHER = """
from bulkup import Updater

class Other(Updater):
    def get_query(self): ...
    def handle_entity(self, entity): ...
"""

FIRST = """
import os
import bulkup
from bulkup import BulkDelete, Updater
{imports}

{helper}

class First(Updater):
    {then}
    def get_query(self):
        return self.client.query(kind="Thing")
    def handle_entity(self, entity): ...
    def finish(self, success, report):
        {finish}
        return None
"""


def first(folder: Path, **parts: str) -> Path:
    parts = {"imports": "", "helper": "", "then": "", "finish": "", **parts}
    (folder / "first.py").write_text(FIRST.format(**parts))
    (folder / "other.py").write_text(OTHER)
    (folder / "evil.py").write_text(f"open({str(folder / 'imported')!r}, 'w')\n{OTHER}")
    return folder / "first.py"


@pytest.mark.parametrize(
    "parts",
    [
        {"then": "then = './other.py:Other'"},
        {"finish": "self.then('./other.py:Other')"},
        {"finish": "self._choose()", "then": "def _choose(self): self.then('./other.py:Other')"},
        {"helper": "def choose(u): u.then('./other.py:Other')", "finish": "choose(self)"},
        {"finish": "[self.then(n) for n in ('./other.py:Other',)]"},
    ],
    ids=["class", "finish", "a method", "a function", "within an expression"],
)
def test_a_link_that_the_code_names_is_followed(tmp_path: Path, parts: dict[str, str]) -> None:
    source = load(f"{first(tmp_path, **parts)}:First")
    spec = follow(source, ["./other.py:Other"])
    assert spec == f"{tmp_path}/other.py:Other"


@pytest.mark.parametrize(
    "parts",
    [
        {"imports": "from named_other import Other", "finish": "self.then(Other)"},
        {"finish": "from named_other import Other; self.then(Other)"},
        {"imports": "import named_other", "finish": "self.then(named_other.Other)"},
        {"imports": "from named_other import Other", "then": "then = Other"},
        {"imports": "import named_other", "then": "successor = named_other.Other",
         "finish": "self.then(self.successor)"},
    ],
    ids=["imported", "imported in finish", "of a module", "declared", "an attribute"],
)  # fmt: skip
def test_a_class_that_the_code_uses_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, str]
) -> None:
    (tmp_path / "named_other.py").write_text(OTHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    link = relative_spec(importlib.import_module("named_other").Other, str(tmp_path))
    del sys.modules["named_other"]
    try:
        assert follow(load(f"{first(tmp_path, **parts)}:First"), [link]).endswith(":Other")
    finally:
        sys.modules.pop("named_other", None)


@pytest.mark.parametrize(
    "link",
    [
        "./evil.py:Other",
        "./evil.py",
        "bulkup:BulkDelete",
        "bulkup.authoring.bulk:BulkDelete",
        "../elsewhere.py:Other",
        "/tmp/evil.py:Other",
        "os:system",
        "antigravity",
        "",
        ":",
    ],
)
@pytest.mark.parametrize("finish", ["self.then('./other.py:Other')", "os.getcwd()"])
def test_a_link_that_the_code_does_not_name_is_refused_before_it_is_loaded(
    tmp_path: Path, link: str, finish: str
) -> None:
    source = load(f"{first(tmp_path, finish=finish)}:First")
    with pytest.raises(MismatchError, match="does not name it"):
        follow(source, [link])
    assert not (tmp_path / "imported").exists()


def test_each_link_is_named_by_the_one_before_it(tmp_path: Path) -> None:
    path = first(tmp_path, then="then = './other.py:Other'")
    source = load(f"{path}:First")
    with pytest.raises(MismatchError, match=r"Other is followed by '\./evil\.py:Other'"):
        follow(source, ["./other.py:Other", "./evil.py:Other"])
    assert not (tmp_path / "imported").exists()
