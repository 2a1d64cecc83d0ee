"""Errors of wrong values and results name the line of the user's file that is to be changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.conftest import Server
from tests.engine.conftest import Run, fill

pytestmark = pytest.mark.client_side

Failed = Callable[..., str]

IMPORTS = """\
import dataclasses, datetime, decimal, enum, uuid
import bulkup
from google.cloud import datastore
from google.cloud.datastore import Entity, Key
"""


def line_of(path: Path, part: str) -> int:
    (number,) = [n for n, line in enumerate(path.read_text().splitlines(), 1) if part in line]
    return number


@pytest.fixture
def failed(embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failed:
    """Run this source over one entity, which fails; `#HERE` marks the line to be named. `raised`:
    the whole error; the user's own code raises it, so only the traceback names the line."""
    fill(embedded, "Thing", 1, price=5, names=["a"])
    monkeypatch.chdir(tmp_path)

    def run_source(source: str, raised: str = "") -> str:
        path = tmp_path / "fix.py"
        path.write_text(IMPORTS + dedent(source))
        report = run(embedded, "fix.py")
        (failure,) = report.failures
        (group,) = report.failure_groups
        line = line_of(path, "#HERE")
        if raised:
            assert failure.error == raised
            assert failure.traceback.count("  File ") == 1, failure.traceback
        else:
            assert f"fix.py:{line})" in failure.error, failure.error
        assert group.place.startswith(f"{path}:{line} in ")
        marked = path.read_text().splitlines()[line - 1].strip()
        assert marked in failure.traceback
        assert "exception" not in failure.traceback  # one after the other, that say the same
        return failure.error

    return run_source


FUNCTION = """
@bulkup.updater(kind="Thing")
def fix(entity):
    other = entity["price"]
    entity["price"] = {value}  #HERE
    return entity
"""

CLASS = """
class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Point:
    x: int

class Fix(bulkup.Updater):
    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        entity["price"] = {value}  #HERE
        self.put(entity)
"""

VALUES = [
    ("{1, 2}", "cannot store a set; use a list, such as sorted(value)"),
    ("decimal.Decimal('1.5')", "Decimal; use a float or a str, such as str(value)"),
    ("datetime.date(2020, 1, 1)", "date; use a datetime, such as datetime.combine("),
    ("datetime.timedelta(1)", "timedelta; use a number, such as value.total_seconds()"),
    ("uuid.UUID(int=1)", "UUID; use a str, such as str(value)"),
    ("2 ** 63", "an integer in Datastore has at most 64 bits; use a str"),
    ("(1, 2)", "tuple; use a list"),
    ("[[1], [2]]", 'property "price" is an array that contains an array; put the inner one'),
    ("[1, {2}]", "cannot store a set"),
    ("{'a': {2}}", "property 'a': Datastore cannot store a set"),
    ("(n for n in [1])", "generator; use a list, such as list(value)"),
    ("'x' * 2000", 'property "price" is longer than 1500 bytes'),
]


@pytest.mark.parametrize(("value", "says"), VALUES)
@pytest.mark.parametrize("form", [FUNCTION, CLASS], ids=["function", "class"])
@pytest.mark.one_in(4)
def test_a_value_that_cannot_be_stored_names_the_line_that_assigned_it(
    failed: Failed, form: str, value: str, says: str
) -> None:
    error = failed(form.replace("{value}", value))
    assert "price" in error
    assert says in error


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("Color.RED", "cannot store a Color; use its value, such as value.value"),
        ("Point(1)", "cannot store a Point; use a dict, such as dataclasses.asdict(value)"),
    ],
)
def test_types_of_the_users_own_are_told_what_to_write(
    failed: Failed, value: str, says: str
) -> None:
    assert says in failed(CLASS.replace("{value}", value))


STRAYS = [
    """
    @bulkup.updater(kind="Thing")
    def fix(entity):
        entity.city = "Bern"  #HERE
        return entity
    """,
    """
    @bulkup.updater(kind="Thing")
    async def fix(entity):
        entity["price"] = 6
        entity.city = "Bern"  #HERE
        return entity
    """,
    """
    @bulkup.updater(kind="Thing", batch=True)
    def fix(entities):
        for entity in entities:
            entity.city = "Bern"  #HERE
        return [None for _ in entities]
    """,
    """
    class Fix(bulkup.Updater):
        allow_unwritten_changes = True

        def get_query(self):
            return self.client.query(kind="Thing")

        def handle_entity(self, entity):
            other = Entity(self.client.key("Thing", 7))
            other.city = "Bern"  #HERE
            self.put(other)
    """,
]


@pytest.mark.parametrize("source", STRAYS, ids=["function", "async", "batch", "another"])
def test_an_attribute_in_place_of_a_property_fails_the_entity_and_names_the_line(
    failed: Failed, source: str
) -> None:
    error = failed(source)
    assert "the attribute 'city' was set on an entity, which does not store it; write " in error


def test_attributes_of_ones_own_begin_with_an_underscore(
    embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 1, home={"city": "a"})
    monkeypatch.chdir(tmp_path)
    source = """
        @bulkup.updater(kind="Thing")
        def fix(entity):
            entity{} = 1
            entity["n"] = len(entity["home"])
            return entity
    """
    for attribute, failures in (("._seen_by", 0), ("['home'].city", 1)):
        name = f"fix{failures}.py"
        Path(name).write_text(IMPORTS + dedent(source.format(attribute)))
        assert len(run(embedded, name).failures) == failures


RETURNS = [
    ("return True", "this one returned True: write `return entity` to write it"),
    ("return 'done'", "this one returned a str"),
    ("return entity.key", "this one returned a Key: write `return bulkup.delete(key)`"),
    ("return [entity, 5]", "this one returned a list that holds a int"),
    ("yield 'a'", "this one yielded a str"),
]


@pytest.mark.parametrize(("statement", "says"), RETURNS)
def test_a_wrong_result_names_the_line_that_returned_it(
    failed: Failed, statement: str, says: str
) -> None:
    error = failed(f"""
        @bulkup.updater(kind="Thing")
        def fix(entity):
            if entity["price"] == 6:
                return None
            {statement}  #HERE
    """)
    assert says in error


def test_a_method_that_returns_something_names_the_line(failed: Failed) -> None:
    error = failed("""
        class Fix(bulkup.Updater):
            def get_query(self):
                return self.client.query(kind="Thing")

            def handle_entity(self, entity):
                return True  #HERE
    """)
    assert "returned a bool, which writes nothing; in a class, call self.put" in error


OTHERS = [
    ("self.put({'a': 1})", "not a dict; make one: `entity = Entity(self.client.key(kind, id))`"),
    ("self.put(entity.key)", "not a Key; put the entity that has this key, or call self.delete"),
    ("self.put(Entity(Key('Thing', 1, project='other')))", "make the key with self.client.key"),
    ("self.delete(Key('Thing', 1, project='other'))", "make the key with self.client.key"),
    ("self.delete(5)", "cannot delete a int; give an Entity or a Key"),
]


@pytest.mark.parametrize(("statement", "says"), OTHERS)
def test_what_cannot_be_put_or_deleted_names_the_line_that_did(
    failed: Failed, statement: str, says: str
) -> None:
    error = failed(f"""
        class Fix(bulkup.Updater):
            def get_query(self):
                return self.client.query(kind="Thing")

            def handle_entity(self, entity):
                {statement}  #HERE
    """)
    assert says in error


RAISING = [
    ("", "def", "entity"),
    ("", "async def", "entity"),
    ("", "def", "entity", "yield entity"),
    ("", "async def", "entity", "yield entity"),
    (", batch=True", "def", "entities"),
]


@pytest.mark.parametrize("form", RAISING, ids=["plain", "async", "yield", "async-yield", "batch"])
def test_what_a_function_raises_itself_names_no_line_but_that(
    failed: Failed, form: tuple[str, ...]
) -> None:
    option, define, argument, *ends = form
    source = f"""
        @bulkup.updater(kind="Thing"{option})
        {define} fix({argument}):
            price = None
            price += 1.5  #HERE
            {(ends or [f"return {argument}"])[0]}
    """
    failed(source, "TypeError: unsupported operand type(s) for +=: 'NoneType' and 'float'")


def test_what_a_library_raises_for_a_function_does_not_name_what_it_returns(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 1)
    source = """
        import json
        @bulkup.updater(kind="Thing")
        def fix(entity):
            entity["price"] = json.loads("")
            return entity
    """
    (tmp_path / "fix.py").write_text(IMPORTS + dedent(source))
    (failure,) = run(embedded, str(tmp_path / "fix.py")).failures
    assert failure.error == "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    assert "return entity" not in failure.traceback


UNCALLED = """
@dataclasses.dataclass
class Thing:
    last: str

@bulkup.updater(kind="Thing"{option})
def fix(thing: {argument}):
    return thing
"""


@pytest.mark.parametrize(("option", "argument"), [("", "Thing"), (", batch=True", "list[Thing]")])
def test_an_entity_of_another_type_names_no_line_of_a_function_that_was_not_called(
    embedded: Server, run: Run, tmp_path: Path, option: str, argument: str
) -> None:
    fill(embedded, "Thing", 1)
    path = tmp_path / "fix.py"
    path.write_text(IMPORTS + UNCALLED.format(option=option, argument=argument))
    (failure,) = run(embedded, str(path)).failures
    assert "property 'last' is missing" in failure.error
    assert "fix.py" not in failure.error + failure.traceback
