"""The pytest plugin, in sessions of users: processes of their own, with warnings as errors."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bulkup.testing import run_updater
from tests.testing.planted import PEOPLE, full_name, misspelled_write

pytestmark = pytest.mark.sampled(9)

ROOT = Path(__file__).parents[2]

CONFTEST = """
import sys

HEAVY = [name for name in sys.modules if name.startswith(("bulkup", "google.cloud", "grpc"))]
"""

PLANTED = """
import os
import sys

sys.path.insert(0, os.environ["REPOSITORY"])

from conftest import HEAVY
from google.cloud import datastore as google
from bulkup.testing import crash_test, run_updater
from tests.testing.planted import *


def test_the_plugin_alone_has_imported_nothing():
    assert HEAVY == []

def test_misspelled_read(bulkup_run):
    result = bulkup_run(misspelled_read, PEOPLE)
    assert result.written == WITH_NAMES

def test_misspelled_write(bulkup_run):
    result = bulkup_run(misspelled_write, PEOPLE)
    assert result.written == WITH_NAMES

def test_forgotten_put(bulkup_run):
    bulkup_run(Forgotten, PEOPLE)

def test_not_idempotent():
    assert crash_test(increment, PEOPLE).idempotent

def test_both_fixtures_and_any_client_mean_one_datastore(datastore, bulkup_run):
    person = google.Entity(datastore.key("Person", "ada"))
    person.update(PEOPLE[0])
    datastore.put(person)
    assert bulkup_run(full_name, sep="-").written == [{**PEOPLE[0], "full_name": "Ada-Lovelace"}]
    assert google.Client().get(person.key)["full_name"] == "Ada-Lovelace"

def test_the_next_test_has_an_empty_one(datastore):
    assert list(datastore.query().fetch()) == []
    assert bulkup_run is not None

def bulkup_run():  # a name of the user's own is not touched
    return 1
"""


def session(folder: Path, *args: str) -> str:
    """The output of pytest in a folder. A checkout that was installed before the plugin existed
    has no entry point."""
    installed = entry_points(group="pytest11", name="bulkup")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error",
         "-W", "ignore:You are using a (non-supported )?Python:FutureWarning",
         "-p", "no:xdist", "-p", "no:randomly", *(() if installed else ("-p", "pytest_bulkup")),
         *args],
        cwd=folder, capture_output=True, text=True, timeout=300, executable=sys.executable,
        env={"PATH": "/usr/bin:/bin", "REPOSITORY": str(ROOT), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_each_planted_mistake_fails_with_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    out = session(tmp_path)
    assert "4 failed, 3 passed in" in out, "and no warnings: " + out
    shown = dict(re.findall(r"^_+ test_(\w+) _+$(.*?)(?=^_+ |\Z)", out, re.M | re.S))
    assert "KeyError: 'fist' (did you mean 'first'?) (planted.py:" in shown["misspelled_read"]
    assert (
        "full_name: 'Ada Lovelace' is missing (did you mean 'ful_name'?)"
        in (shown["misspelled_write"])
    )
    assert "ful_name: 'Ada Lovelace' is not expected" in shown["misspelled_write"]
    assert "write `self.put(entity)`" in shown["forgotten_put"]
    assert (
        "increment is not idempotent, in a second run Key('Person', 1)" in shown["not_idempotent"]
    )
    for text in shown.values():
        assert "bulkup/testing" not in text, "the traceback ends in the user's test"


def test_pytest_finds_the_plugin_where_bulkup_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    name = project["project"]["entry-points"]["pytest11"]["bulkup"]
    assert f"{name}.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    plugin = importlib.import_module(name)
    assert plugin.datastore
    assert plugin.bulkup_run


def test_comparisons_of_the_users_own_are_not_explained() -> None:
    plugin = importlib.import_module("pytest_bulkup")
    assert plugin.pytest_assertrepr_compare("==", [1], [2]) is None
    written = run_updater(full_name, PEOPLE).written
    assert plugin.pytest_assertrepr_compare("!=", written, []) is None
    assert plugin.pytest_assertrepr_compare("==", written, 5) is None


@pytest.mark.parametrize("swapped", [False, True])
def test_an_explanation_names_what_is_missing_and_what_is_not_expected(swapped: bool) -> None:
    from bulkup.testing.expected import explain

    written = run_updater(misspelled_write, PEOPLE).written
    expected = [{**PEOPLE[0], "first": "Bob", "full_name": "Ada Lovelace"}, 7, {"n": 1}]
    lines = explain(*((expected, written) if swapped else (written, expected)))
    assert lines == [
        "2 entities of the run, 3 expected",
        "[0] Key('Person', 1):",
        "    first: 'Ada', expected 'Bob'",
        "    ful_name: 'Ada Lovelace' is not expected",
        "    full_name: 'Ada Lovelace' is missing (did you mean 'ful_name'?)",
        "[1] Key('Person', 2) is compared with 7; give a dictionary or an Entity",
        "[2] is missing: {'n': 1}",
        "The run: misspelled_write handled 2, wrote 2 and deleted 0",
    ]


def test_entities_that_differ_in_what_is_not_a_property_are_told_apart() -> None:
    from bulkup.testing.expected import explain

    written = run_updater(full_name, PEOPLE[:1]).written
    (same,) = run_updater(full_name, PEOPLE[:1]).written
    same.exclude_from_indexes = {"first"}
    assert "    the same values, with other index flags" in str(explain(written, [same]))
    (other,) = run_updater(full_name, [{"__key__": ["Person", "a"], **PEOPLE[0]}]).written
    assert "    the key: <Key('Person', 1)" in str(explain(written, [other]))
    assert "write [...]" in str(explain(written, tuple(written)))


def test_what_an_entity_holds_cannot_write_to_the_terminal() -> None:
    from bulkup.testing.expected import explain

    written = run_updater(full_name, [{**PEOPLE[0], "\x1b[31m\n": "\x1b]0;x\x07"}]).written
    shown = "".join(explain(written, [{}]) or ()) + repr(written.result.diffs)
    assert "\x1b" not in shown
    assert "\n" not in shown
