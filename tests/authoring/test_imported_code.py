"""The checksum of an updater's code and of what it imports from its own project."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.authoring.code_checksum import code_checksum
from bulkup.authoring.imported_code import checksum_with_imports

FILES = {
    "jobs/update.py": "import os, helpers\nfrom . import sibling\nfrom shop.prices import cents\n",
    "jobs/__init__.py": "",
    "jobs/sibling.py": "def later():\n    from .deep import thing\n",
    "jobs/deep/__init__.py": "A = 1\n",
    "jobs/deep/thing.py": "import jobs.update\n",
    "jobs/helpers.py": "HELP = 1\n",
    "shop/__init__.py": "SHOP = 1\n",
    "shop/prices.py": "from shop import rates\ncents = 1\n",
    "shop/rates.py": "RATE = 1\n",
    "shop/unused.py": "UNUSED = 1\n",
    "notes.py": "NOTES = 1\n",
}


def made(folder: Path, **changes: str) -> str:
    for name, text in {**FILES, **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = folder / "jobs/update.py"
    return checksum_with_imports(path, path.read_bytes())


@pytest.mark.parametrize(
    "name",
    [name for name in FILES if name not in ("shop/unused.py", "notes.py", "jobs/update.py")],
)
def test_a_change_in_any_imported_file_counts_and_a_comment_does_not(
    tmp_path: Path, name: str
) -> None:
    before = made(tmp_path)
    assert made(tmp_path, **{name: FILES[name] + "# a comment\n"}) == before
    assert made(tmp_path, **{name: FILES[name] + "CHANGED = 1\n"}) != before
    assert made(tmp_path, **{name: FILES[name] + "not python(\n"}) != before


def test_other_files_and_other_places_do_not_count(tmp_path: Path) -> None:
    before = made(tmp_path / "here")
    changed = {"shop/unused.py": "UNUSED = 2\n", "notes.py": "NOTES = 2\n"}
    assert made(tmp_path / "there", **changed) == before


def test_a_file_that_imports_nothing_of_its_project_has_its_own_checksum(tmp_path: Path) -> None:
    source = b"import os, json, bulkup\nfrom google.cloud import datastore\n"
    path = tmp_path / "alone.py"
    path.write_bytes(source)
    assert checksum_with_imports(path, source) == code_checksum(source)


def test_a_dotted_name_is_found_from_where_it_starts(tmp_path: Path) -> None:
    source = b"import jobs.steps\n"
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs/update.py"
    path.write_bytes(source)
    (tmp_path / "jobs/steps.py").write_text("STEP = 1\n")
    before = checksum_with_imports(path, source, "jobs.update")
    (tmp_path / "jobs/steps.py").write_text("STEP = 2\n")
    assert checksum_with_imports(path, source, "jobs.update") != before
