"""A successor that cannot begin is found before the work, where that can be known."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, contents, seed, values
from tests.conftest import Server

UPDATERS = """
    import bulkup

    class Second(bulkup.BulkPut):
        word: str = bulkup.param("b")
        count: int = bulkup.param(1)

        def get_query(self):
            return self.client.query(kind="Item")

    class Strict(bulkup.BulkPut):
        word: str = bulkup.param()

        def get_query(self):
            return self.client.query(kind="Item")

    class Broken(bulkup.BulkPut):
        def get_query(self):
            return self.client.query(kind=self.nothing)

    class First(bulkup.Updater):
        {body}

        def handle_entity(self, entity):
            entity["n"] += 1
            self.put(entity)
"""

QUERY = """
        def get_query(self):
            {then}
            return self.client.query(kind="Item")
"""

FINISH = """
        other = Second

        def get_query(self):
            return self.client.query(kind="Item")

        def finish(self, success, report):
            params = dict(word=report.run_id)
            found = len(params)
            {then}
"""

WRONG = {
    "self.then(Second, wrod='x')": "no parameter wrod",
    "self.then(Second, count='x')": "count",
    "self.then(self.other, wrod=report.run_id)": "no parameter wrod",
    "self.then(Strict)": "word",
    "self.then('no_such_file.py')": "no_such_file.py",
    "self.then('broken_file.py')": "broken_file.py",
    "if not success: self.then(Second, wrod=1)": "no parameter wrod",
}

RIGHT = [
    "self.then(Second, word='x', count=2)",
    "self.then(Second, count=found)",
    "self.then(Strict, **params)",
    "self.then(Strict, word=report.run_id)",
    "self.then([Second, Strict][success], **params)",
    "other = Second; self.then(other, word='x')",
]


@pytest.fixture
def items(embedded: Server) -> datastore.Client:
    return seed(embedded, 3)


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("broken_file.py", "1 / 0\n")
    return shell


def write(shell: Shell, body: str) -> None:
    shell.write("up.py", UPDATERS.format(body=body.strip()))


@pytest.mark.parametrize("then", WRONG)
def test_a_dry_run_shows_a_successor_that_cannot_begin(
    shell: Shell, items: datastore.Client, embedded: Server, then: str
) -> None:
    write(shell, FINISH.format(then=then))
    before = contents(embedded)
    result = shell.bulkup("run", "-n", "up.py:First", "--json")
    assert result.code == 0, result
    (warning,) = result.of_type("warning")
    assert "First.finish names a successor that cannot begin" in warning["message"]
    assert WRONG[then] in warning["message"], warning
    assert contents(embedded) == before


@pytest.mark.parametrize("then", RIGHT)
def test_a_dry_run_says_nothing_of_a_successor_that_may_be_right(
    shell: Shell, items: datastore.Client, then: str
) -> None:
    write(shell, FINISH.format(then=then))
    result = shell.bulkup("run", "-n", "up.py:First", "--json")
    assert result.code == 0, result
    assert result.of_type("warning") == []


def test_a_run_warns_of_a_parameter_that_its_successor_does_not_have(
    shell: Shell, items: datastore.Client
) -> None:
    write(shell, FINISH.format(then="self.then(Second, wrod='x')"))
    result = shell.bulkup("run", "up.py:First", "--json")
    assert result.code == 1
    first = result.of_type("warning")[0]
    assert "no parameter wrod" in first["message"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dry", [("-n",), ()])
@pytest.mark.parametrize(
    ("then", "code", "says"),
    [
        ("self.then(Second, wrod=1)", 2, "no parameter wrod"),
        ("self.then(Strict)", 2, "word"),
        ("self.then('no_such_file.py')", 10, "no_such_file.py"),
        ("self.then('broken_file.py')", 1, "broken_file.py"),
    ],
)
def test_a_successor_asked_for_in_get_query_is_checked_before_anything_starts(
    shell: Shell, items: datastore.Client, then: str, code: int, says: str, dry: tuple[str, ...]
) -> None:
    write(shell, QUERY.format(then=then))
    result = shell.bulkup("run", *dry, "up.py:First")
    result.fails(code, "the successor of First cannot begin", says)
    assert values(items) == {1: 0, 2: 0, 3: 0}
    assert shell.runs() == []


def test_a_dry_run_shows_a_successor_whose_query_fails_now(
    shell: Shell, items: datastore.Client
) -> None:
    write(shell, "then = Broken\n" + QUERY.format(then="pass"))
    result = shell.bulkup("run", "-n", "up.py:First")
    assert result.code == 0, result
    assert "as things are now, the successor of First cannot begin" in result.err
    assert "nothing" in result.err
