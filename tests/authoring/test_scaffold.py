"""What `bulkup new` writes is Python, whatever the entities hold."""

from __future__ import annotations

import ast
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.authoring.loader import load
from bulkup.authoring.scaffold import scaffold, write_new
from bulkup.authoring.scaffold_source import (
    NewUpdater,
    Property,
    Sample,
    literal,
    source_of_test,
    source_of_updater,
)
from bulkup.core.errors import UsageError

pytestmark = pytest.mark.sampled(5)

NASTY = [
    "class", "None", "a b", "it's", '"""', "\\", "\n", "#", "x = 1\nimport os", "{", "%s",
    "\x1b[0m",
    "__private", "__doc__", "\u202eevil", "\u2028", "\u00a0", "\ufb01rst", "\u00ad", "", "datetime",
    "Any", "NotRequired", "str", "int", "key", "self", "checked", "checked_", "été", "名", "\0",
    "_",
    "🙂", "\\N{DEL}", "TypedDict", "\ud800",
]  # fmt: skip
NAMES = st.one_of(st.sampled_from(NASTY), st.text(max_size=8))
ONE = st.sampled_from(
    ["None", "bool", "int", "float", "datetime", "Key", "str", "bytes", "GeoPoint",
     "dict[str, Any]", "Any", "list[Any]", "list[int | None]", "list[dict[str, Any]]"]
)  # fmt: skip
TYPES = st.lists(ONE, min_size=1, max_size=3, unique=True).map(" | ".join)


@st.composite
def samples(draw: Any) -> Sample:
    entities = draw(st.integers(1, 20))
    names = draw(st.lists(NAMES, max_size=6, unique=True))
    return Sample(
        entities,
        tuple(Property(name, draw(TYPES), draw(st.integers(1, entities))) for name in names),
    )


UPDATERS = st.builds(
    NewUpdater,
    st.sampled_from(["add_full_name", "_", "Updater", "datetime", "any", "été", "_2", "person"]),
    NAMES.filter(bool),
    st.booleans(),
    st.none() | samples(),
)


def executed(source: str, **names: Any) -> dict[str, Any]:
    source.encode()
    assert not any(char in source for char in "\x1b\u202e\u2028\u00ad\r")
    exec(compile(source, "written.py", "exec", dont_inherit=True), names)
    return names


@given(UPDATERS)
def test_what_is_written_compiles_and_holds_the_names_unchanged(new: NewUpdater) -> None:
    properties = new.sample.properties if new.sample else ()
    names = executed(source_of_updater(new))
    kinds = [value for value in names.values() if typing.is_typeddict(value)]
    assert len(kinds) == (new.sample is not None)
    for typed in kinds:
        assert [*typed.__annotations__] == [one.name for one in properties]
        missing = {one.name for one in properties if new.sample and one.count < new.sample.entities}
        assert typed.__optional_keys__ == missing
    test = executed(source_of_test(new, "x.py"), __file__="test_x.py")
    before, after = test["BEFORE"], test["AFTER"]
    if new.sample:
        assert [*before] == [one.name for one in properties]
    (change,) = after.keys() - before.keys()
    assert change == ast.literal_eval(new.change)
    (defined,) = (
        node
        for node in ast.parse(source_of_updater(new)).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and "bulkup" in ast.dump(node)
    )
    assert literal(new.kind) in ast.unparse(defined) or repr(new.kind) in ast.unparse(defined)


@given(NAMES)
def test_a_literal_is_the_same_string_and_one_line(text: str) -> None:
    written = literal(text)
    assert ast.literal_eval(written) == text
    assert written.isprintable()


@given(UPDATERS)
def test_the_updater_of_any_sample_can_be_loaded(new: NewUpdater) -> None:
    names = executed(source_of_updater(new))
    found = [v for k, v in names.items() if getattr(v, "__module__", "") in (None, "builtins")]
    updaters = [v for v in found if hasattr(v, "__bulkup_updater__") or hasattr(v, "get_query")]
    assert len(updaters) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a b", "not a valid name"), ("1a", "not a valid name"), ("../a", "not a valid name"),
        ("a.py", "not a valid name"), ("a/b", "not a valid name"), ("", "not a valid name"),
        ("class", "is a keyword of Python"), ("None", "such as none_entities"),
        ("a\n", "not a valid name"),
        ("a\0", "not a valid name"), ("a-b", "not a valid name"), ("\udc80", "not a valid name"),
        ("test_a", "name for a test"), ("a_test", "name for a test"), ("conftest", "for a test"),
        ("json", "would hide the module json"), ("click", "would hide"), ("google", "would hide"),
        ("bulkup", "would hide"), ("a" * 101, "has 101 characters"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        scaffold(NewUpdater(name), tmp_path)
    assert "\n" not in raised.value.message


def test_a_kind_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid UTF-8"):
        scaffold(NewUpdater("up", "\udcff"), tmp_path)


def test_a_migration_may_have_the_name_of_a_module(tmp_path: Path) -> None:
    files = scaffold(NewUpdater("json"), tmp_path, "0001")
    assert [path.name for path in files] == ["0001_json.py", "test_0001_json.py"]


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    files = scaffold(NewUpdater("up", is_class=True), tmp_path / "new")
    updater, test = files
    write_new(files)
    assert load(str(updater)).name == "Up"
    with pytest.raises(UsageError, match="is there already"):
        write_new(files)
    updater.unlink()
    test.write_text("mine")
    with pytest.raises(UsageError, match=r"test_up\.py is there already"):
        write_new(files)
    assert not updater.exists()
    assert test.read_text() == "mine"
    test.unlink()
    test.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is there already"):
        write_new(files)
    assert not updater.exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written .* name another folder with --in"):
        write_new(scaffold(NewUpdater("up"), tmp_path / "file"))
    second = scaffold(NewUpdater("up"), tmp_path)
    one, _ = second
    with pytest.raises(UsageError, match="cannot be written"):
        write_new({one: "", tmp_path / "file" / "test.py": ""})
    assert not one.exists()


def test_the_written_test_finds_a_return_that_is_forgotten_on_one_path(tmp_path: Path) -> None:
    new = NewUpdater("fix", "Person", False, None)
    (tmp_path / "fix.py").write_text(
        source_of_updater(new).replace(
            "    return entity\n",
            "    if entity['name'] == 'Ada':\n        return entity\n    entity['n'] = 1\n",
        )
    )
    source = source_of_test(new, "fix.py").replace("[BEFORE, AFTER]", "[BEFORE, {'name': 'x'}]")
    names = executed(source, __file__=str(tmp_path / "test_fix.py"))
    with pytest.raises(AssertionError) as raised:
        names["test_a_run_changes_what_it_should_and_nothing_else"]()
    last = raised.traceback[-1].lineno
    assert source.splitlines()[last] == "    assert not result.warnings"
