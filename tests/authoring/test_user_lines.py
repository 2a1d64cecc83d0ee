"""The lines of a user's file that assign a property, return a result, or keep something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkup.authoring.loader import load, make
from bulkup.authoring.user_lines import assignments, blame, kept_at, returned_at
from bulkup.core.places import in_brackets

SOURCE = '''\
import bulkup
from helpers import fill

class Fix(bulkup.Updater):
    total = 0

    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        entity["plain"] = 1
        entity["added"] += 1
        entity["first"], entity["second"] = 1, 2
        entity.update(by_keyword=1)
        entity.update({"by_dict": 1})
        entity.setdefault("by_default", 1)
        entity.by_attribute = 1
        self.not_a_property = 1
        for name in "ab":
            entity[name] = 1
        if entity["plain"]:
            entity["twice"] = 1
        else:
            entity["twice"] = 2
        self.helper(entity)
        self.total += 1
        names.append(1)

    def helper(self, entity):
        def inner():
            if True:
                return True
            entity["in_helper"] = 1
        return inner()

names = []

def elsewhere(entity):
    entity["plain"] = 2
    entity["elsewhere"] = 1
    return entity

class Other(Fix):
    """Inherits its handler."""
'''


@pytest.fixture
def fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "helpers.py").write_text("def fill(entity):\n    pass\n")
    path = tmp_path / "fix.py"
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return make(load("fix.py:Fix"), {})


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("plain", [11]),  # and not elsewhere
        ("added", [12]),
        ("first", [13]),
        ("second", [13]),
        ("by_keyword", [14]),
        ("by_dict", [15]),
        ("by_default", [16]),
        ("by_attribute", [17]),
        ("not_a_property", []),
        ("a", []),
        ("twice", [22, 24]),
        ("in_helper", [33]),
        ("elsewhere", [40]),
        ("nowhere", []),
    ],
)
def test_the_lines_that_assign_a_property_are_found(fix: Any, name: str, lines: list[int]) -> None:
    assert [one.place.line for one in assignments(fix, name)] == lines


def test_lines_are_shown_as_users_type_them(fix: Any) -> None:
    (one,) = assignments(fix, "added")
    assert str(one.place) == "fix.py:12"
    assert one.place.source == 'entity["added"] += 1'
    assert one.place.function == "handle_entity"
    assert in_brackets([one.place], "assigned") == " (assigned at fix.py:12)"
    places = [one.place for one in assignments(fix, "twice")]
    assert in_brackets(places) == " (fix.py:22 or fix.py:24)"
    assert in_brackets(places * 2) == ""  # four lines help nobody


def test_what_handlers_keep_is_found(fix: Any) -> None:
    assert [place.line for place in kept_at(fix, "total")] == [26]
    assert [place.line for place in kept_at(fix, "names")] == [27]
    assert kept_at(fix, "plain") == []


def test_a_returned_constant_is_told_from_others(fix: Any) -> None:
    def function(entity: Any) -> Any:
        if entity:
            return True
        return "yes" if entity == 1 else None

    first = function.__code__.co_firstlineno
    assert [place.line for place in returned_at(function, True)] == [first + 2]
    assert [place.line for place in returned_at(function, "yes")] == [first + 3]
    assert [place.line for place in returned_at(lambda: 5, 5)] == [first + 8]


def test_where_an_entity_may_have_been_returned_is_not_where_none_is() -> None:
    def function(entity: Any) -> Any:
        if not entity:
            return None
        return entity

    first = function.__code__.co_firstlineno
    assert [place.line for place in returned_at(function)] == [first + 3]
    assert [place.line for place in returned_at(function, None)] == [first + 2]


def test_errors_of_the_users_own_code_are_left_to_the_traceback(fix: Any) -> None:
    assert blame(fix, ValueError("mine")) == ""
    assert blame(fix, KeyError("price")) == ""


def test_a_file_that_has_changed_its_syntax_or_is_gone_names_nothing(tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    code = "import bulkup\nclass Fix(bulkup.Updater):\n    def handle_entity(self, entity): pass"
    exec(compile(code, str(tmp_path / "gone.py"), "exec"), space)
    assert assignments(space["Fix"](), "plain") == []
    (tmp_path / "broken.py").write_text("def (")
    exec(compile(code, str(tmp_path / "broken.py"), "exec"), space)
    assert assignments(space["Fix"](), "plain") == []
