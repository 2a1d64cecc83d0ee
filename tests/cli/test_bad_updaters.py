"""What can be wrong with an updater: one sentence, the right exit code, and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.shell import TIMEOUT_S, Result, Shell, contents, seed
from tests.conftest import Server

pytestmark = pytest.mark.sampled(5)

TWO = """
    import bulkup

    @bulkup.updater(kind="Item")
    def first(entity):
        return entity

    @bulkup.updater(kind="Item")
    def second(entity):
        return entity
"""


def refused(shell: Shell, *args: object, code: int, says: tuple[str, ...]) -> Result:
    """The command fails and leaves no trace in its working directory."""
    before = sorted(shell.folder.rglob("*"))
    result = shell.bulkup(*args).fails(code, *says)
    assert sorted(shell.folder.rglob("*")) == before
    return result


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("nope.py", 10, ("no file nope.py", "check the path")),
        ("bumb.py", 10, ("no file bumb.py", "did you mean bump.py")),
        ("no/folder/bump.py", 10, ("no folder no/folder",)),
        ("bump.py:Bunp", 10, ("no Bunp in bump.py", "did you mean Bump")),
        ("bump.py:Updater", 2, ("Updater in bump.py", "get_query")),
        ("bump.py:param", 2, ("param in bump.py", "not an updater")),
        ("no_such_module", 10, ("no module no_such_module",)),
        ("no_such.module:Name", 10, ("no module no_such.module",)),
        (".", 2, ("is a folder", "bump.py")),
        ("", 2, ("name an updater",)),
        (":Bump", 2, ("Bump",)),
        ("\x1b[31mred.py", 10, ("no file '\\x1b[31mred.py'",)),
        ("two\nlines.py", 10, ("no file 'two\\nlines.py'",)),
        ("a" * 5000 + ".py", 2, ("cannot read",)),
        ("/dev/null", 2, ("not a Python file",)),
        ("[bold]x.py", 10, ("no file [bold]x.py",)),
    ],
    ids=lambda value: ascii(value[:20]) if isinstance(value, str) else "",
)  # fmt: skip
def test_a_missing_updater_is_named(
    nowhere: Shell, typed: str, code: int, says: tuple[str, ...]
) -> None:
    result = refused(nowhere, "run", typed, code=code, says=says)
    assert len(result.err.splitlines()) == 1
    assert "\x1b" not in result.err


def test_a_syntax_error_is_shown_where_it_is(nowhere: Shell) -> None:
    nowhere.write("broken.py", "import bulkup\n\ndef half(:\n    pass\n")
    result = refused(
        nowhere, "run", "broken.py", code=1, says=("broken.py cannot be loaded", "line 3")
    )
    assert "def half(:" in result.err
    assert "importing.py" not in result.err


def test_a_failing_import_shows_the_users_frames_and_no_others(nowhere: Shell) -> None:
    nowhere.write("failing.py", "def check():\n    return 1 / 0\n\ncheck()\n")
    result = refused(nowhere, "run", "failing.py", code=1, says=("failing.py cannot be loaded",))
    assert "ZeroDivisionError" in result.err
    frames = [line.strip() for line in result.err.splitlines() if line.strip().startswith("File")]
    assert len(frames) == 2
    assert all("failing.py" in frame for frame in frames)


def test_a_missing_package_is_named(nowhere: Shell) -> None:
    nowhere.write("needs.py", "import no_such_package_at_all\n")
    refused(nowhere, "run", "needs.py", code=1, says=("install no_such_package_at_all",))


def test_a_file_that_exits_does_not_end_bulkup_without_a_word(nowhere: Shell) -> None:
    nowhere.write("exits.py", "import sys\nsys.exit(0)\n")
    refused(nowhere, "run", "exits.py", code=1, says=("exits.py exits (SystemExit", "__main__"))


def test_a_file_without_an_updater(nowhere: Shell) -> None:
    nowhere.write("nothing.py", "x = 1\n")
    refused(nowhere, "run", "nothing.py", code=10, says=("no updater in nothing.py",))


def test_a_file_with_several_updaters_lists_them(nowhere: Shell) -> None:
    nowhere.write("two.py", TWO)
    refused(
        nowhere, "run", "two.py", code=2,
        says=("several updaters", "two.py:first", "two.py:second"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (("-p", "steps=2"), ("no parameter steps", "did you mean 'step'")),
        (("-p", "colour=2"), ("no parameter colour", "step")),
        (("-p", "step=two"), ("step=two is not valid", "a whole number")),
        (("-p", "step"), ("step has no value", "-p NAME=VALUE")),
        (("-p", "=2"), ("has no parameter name",)),
        (("-p", "step=1", "-p", "step=2"), ("given twice",)),
        (("-p", "step=\x1b]0;owned\x07"), ("is not valid",)),
    ],
    ids=["typo", "unknown", "unconvertible", "no value", "no name", "twice", "hostile"],
)
def test_parameters_that_are_not_valid(
    nowhere: Shell, params: tuple[str, ...], says: tuple[str, ...]
) -> None:
    result = refused(nowhere, "run", "bump.py", *params, code=2, says=says)
    assert "\x1b" not in result.err


def test_a_missing_parameter_is_asked_for_by_name_and_form(nowhere: Shell) -> None:
    nowhere.write(
        "missing.py",
        """
        from datetime import date
        import bulkup

        @bulkup.updater(kind="Item")
        def since(entity, *, day: date):
            return entity
        """,
    )
    refused(nowhere, "run", "missing.py", code=2, says=("since needs -p day=... (a date",))


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("return None", 2, ("get_query returned nothing", "return a query")),
        ("self.client.query(kind='Item')", 2, ("get_query returned nothing",)),
        ("return 'Item'", 2, ("get_query returned a str",)),
        ("return self.client.query(kind='Item').fetch()", 2, ("get_query returned a Iterator",)),
        ("return self.client.query(kind='Item', projection=['n'])", 2, ("projection",)),
        ("return self.client.query(kind='Item', distinct_on=['n'])", 2, ("distinct_on",)),
        ("return type(self.client)(project='other').query(kind='Item')", 2,
         ("for project 'other'", "--project")),
        ("raise LookupError('no kind today')", 1,
         ("get_query of Odd raised LookupError: no kind today", "nothing was started")),
        ("return self.client.no_such_method()", 1, ("raised AttributeError",)),
        ("raise SystemExit(0)", 1, ("get_query of Odd raised SystemExit",)),
    ],
    ids=["None", "no return", "str", "iterator", "projection", "distinct", "other project",
         "raises", "attribute", "exits"],
)  # fmt: skip
def test_a_query_that_is_none(
    lf_shell: Shell, lf: Server, body: str, code: int, says: tuple[str, ...]
) -> None:
    lf_shell.write(
        "odd.py",
        f"""
        from bulkup import BulkPut

        class Odd(BulkPut):
            def get_query(self):
                {body}
        """,
    )
    result = refused(lf_shell, "run", "odd.py", code=code, says=says)
    if code == 1:
        assert 'odd.py", line' in result.err
        assert "jobs.py" not in result.err
    assert contents(lf) == {}


def test_a_query_that_the_server_cannot_run_ends_before_anything_is_written(
    lf_shell: Shell, lf: Server
) -> None:
    seed(lf, 3)
    before = contents(lf)
    lf_shell.write(
        "unequal.py",
        """
        import bulkup

        @bulkup.updater(kind="Item", filters=[("n", "NOT_IN", [5])])
        def unequal(entity):
            return entity
        """,
    )
    refused(
        lf_shell,
        "run",
        "unequal.py",
        code=2,
        says=("cannot run the query (INVALID_ARGUMENT)", "NOT_IN"),
    )
    assert contents(lf) == before


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("max_failures = -2", ("max_failures of Odd is -2",)),
        ("def __init__(self, x): pass", ("__init__ cannot be called without arguments",)),
        ("async def handle_batch(self, entities): pass", ("handle_batch is async",)),
        ("def handle_entity(self, entity): yield entity", ("handle_entity yields",)),
    ],
)
def test_what_could_only_fail_later_is_refused_now(
    nowhere: Shell, source: str, says: tuple[str, ...]
) -> None:
    nowhere.write(
        "odd.py",
        f"""
        from bulkup import Updater

        class Odd(Updater):
            def get_query(self):
                return self.client.query(kind="Item")
            def handle_entity(self, entity):
                pass
            {source}
        """,
    )
    refused(nowhere, "run", "odd.py", code=2, says=says)


def test_with_json_an_error_is_an_object_too(nowhere: Shell) -> None:
    result = nowhere.bulkup("run", "nope.py", "--json")
    assert result.code == 10
    (error,) = result.lines
    assert (error["type"], error["exit_code"]) == ("error", 10)
    assert "no file nope.py" in error["message"]


@pytest.mark.parametrize("command", ["run", "params"])
def test_a_file_name_that_is_not_valid_utf_8(nowhere: Shell, command: str) -> None:
    result = nowhere.bulkup(command, os.fsdecode(b"caf\xe9.py")).fails(10, "no file")
    assert "caf" in result.err


@pytest.mark.client_side
@pytest.mark.parametrize(
    ("attribute", "meant"),
    [
        ("max_failure = 5", "max_failures"),
        ("maxfailures = 5", "max_failures"),
        ("def check_befor(self, client): return False", "check_before"),
        ("puts = 0; finished = False; onces = 1; failures_max = 2", ""),
    ],
)
def test_a_misspelled_attribute_of_a_class_is_named(
    shell: Shell, attribute: str, meant: str
) -> None:
    code = """
        from bulkup import Updater

        class Bump(Updater):
            {}

            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                entity["n"] = 1
                self.put(entity)
    """
    shell.write("bump.py", code.format(attribute))
    result = shell.bulkup("run", "-n", "bump.py")
    assert result.code == 0, result
    said = result.out + result.err
    assert ("which bulkup does not read" in said) is bool(meant)
    if meant:
        assert f"is it meant to be {meant}?" in " ".join(said.split())


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("max_failure=3", "has no argument max_failure; did you mean max_failures?"),
        ("filter=[]", "has no argument filter; did you mean filters?"),
        ("colour=1", "has no argument colour; it takes kind, query, filters"),
    ],
)
def test_a_misspelled_argument_of_the_decorator_is_named(
    nowhere: Shell, argument: str, says: str
) -> None:
    nowhere.write("mine.py", TWO.replace('(kind="Item")', f'(kind="Item", {argument})', 1))
    result = nowhere.bulkup("params", "mine.py")
    assert result.code == 2
    assert f"Error: @bulkup.updater {says}" in result.err
    assert "TypeError" not in result.err


TYPED = """
    from dataclasses import dataclass

    import bulkup

    @dataclass
    class Item:
        n: int

    @bulkup.updater(kind="Item")
    def fix(item: Item):
        return item
"""


def test_a_file_that_hides_a_library_is_named(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    shell.write("fixes/fix.py", TYPED)
    shell.write("fixes/attr.py", TWO)
    cold = shell.start("run", "fixes/fix.py", "--yes")
    out, err = cold.communicate(timeout=TIMEOUT_S)
    assert (cold.returncode, out) == (2, "")
    path = str(tmp_path / "fixes" / "attr.py")
    assert f"{path!r} hides the installed module attr: rename that file" in err
    assert "bug in bulkup" not in err
