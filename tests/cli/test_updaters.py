"""`bulkup updaters`: what there is, from the package and from a folder, without a Datastore."""

from __future__ import annotations

from textwrap import dedent

import pytest

from bulkup.authoring.built_ins import BUILT_INS
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell

pytestmark = pytest.mark.sampled(5)

FUNCTION = """
import bulkup

@bulkup.updater(kind="Item")
def tidy(item, *, sep: str = " ", before: int):
    '''Tidy up every Item.'''
    return item
"""
TWO = """
from bulkup import BulkDelete, Updater, param
from bulkup.transforms import RenameProperty
from one import tidy  # of another file, where it is listed

class Base(Updater):
    pass

class _Private(BulkDelete):
    def get_query(self): ...

class Name(RenameProperty):
    kind, from_, to = "Item", "a", "b"

class Wrong(BulkDelete):
    of: dict = param()
    def get_query(self): ...
"""


def test_built_in_ones_are_listed_with_their_parameters(nowhere: Shell) -> None:
    result = nowhere.bulkup("updaters")
    assert result.code == 0, result
    for name in BUILT_INS:
        assert f" {name} " in result.out
    assert "from, to, overwrite=false" in " ".join(result.out.split())
    assert "There is no folder updaters; name another one with `bulkup updaters DIR`." in result.out


def test_those_of_a_folder_are_listed_and_broken_files_with_their_error(nowhere: Shell) -> None:
    nowhere.write("updaters/one.py", FUNCTION)
    nowhere.write("updaters/two.py", TWO)
    nowhere.write("updaters/broken.py", "import not_there")
    nowhere.write("updaters/exits.py", "raise SystemExit(3)")
    nowhere.write("updaters/no_python.py", "x = \x1b[31m")
    nowhere.write("updaters/helper.py", "x = 1")
    nowhere.write("updaters/_private.py", BUMP)
    result = nowhere.bulkup("updaters", "--json")
    assert result.code == 0, result
    keeps_the_contract(result.lines)
    found = {line["spec"]: line for line in result.lines if not line["built_in"]}
    assert sum(line["built_in"] for line in result.lines) == len(BUILT_INS)
    assert found.keys() == {
        "updaters/one.py", "updaters/two.py:Name", "updaters/two.py:Wrong", "updaters/broken.py",
        "updaters/exits.py", "updaters/no_python.py",
    }  # fmt: skip
    one = found["updaters/one.py"]
    assert (one["name"], one["description"], one["error"]) == ("tidy", "Tidy up every Item.", "")
    assert [(p["name"], p["required"]) for p in one["parameters"]] == [
        ("sep", False), ("before", True),
    ]  # fmt: skip
    assert "No module named 'not_there'" in found["updaters/broken.py"]["error"]
    assert "exits" in found["updaters/exits.py"]["error"]
    assert "not valid Python" in found["updaters/no_python.py"]["error"]
    assert "unsupported type dict" in found["updaters/two.py:Wrong"]["error"]
    shown = nowhere.bulkup("updaters")
    assert shown.code == 0
    assert "\x1b[31m" not in shown.out
    text = " ".join(shown.out.split())
    assert "Updaters in updaters" in text
    assert "updaters/one.py Tidy up every Item. before, sep=' '" in text


def test_the_folder_is_that_of_the_configuration_or_typed(nowhere: Shell) -> None:
    nowhere.write("jobs/one.py", FUNCTION)
    nowhere.write("bulkup.toml", 'migrations = "jobs"')
    assert "jobs/one.py" in nowhere.bulkup("updaters").out
    assert "jobs/one.py" in nowhere.bulkup("updaters", "jobs").out
    nowhere.write("empty/readme.txt", "")
    assert "There are no updaters in empty." in nowhere.bulkup("updaters", "empty").out
    nowhere.bulkup("updaters", "nope").fails(10, "there is no folder nope")


def test_listing_reaches_no_datastore(nowhere: Shell) -> None:
    nowhere.write(
        "updaters/guest.py",
        dedent("""
            from google.cloud import datastore
            datastore.Client(project="other").put(datastore.Entity())
        """),
    )
    (line,) = [one for one in nowhere.bulkup("updaters", "--json").lines if not one["built_in"]]
    assert "guest.py" in line["error"]
    assert line["spec"] == "updaters/guest.py"
