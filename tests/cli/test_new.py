"""`bulkup new`: an updater and its test, which passes at once."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import GeoPoint

from tests.cli.shell import Shell, contents
from tests.conftest import Server
from tests.testing.test_plugin import session

pytestmark = pytest.mark.sampled(9)


def written(shell: Shell) -> list[str]:
    files = (path.relative_to(shell.folder) for path in shell.folder.rglob("*.py"))
    return sorted(map(str, files))


def read(shell: Shell, name: str) -> str:
    return Path(shell.folder, name).read_text()


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    """In an empty folder, beside a Datastore with three people."""
    client = embedded.client()
    people = []
    for number, more in enumerate([{"age": 3}, {"age": None}, {'it\'s "odd"\n': 1.5}]):
        person = Entity(client.key("Person", number + 1))
        person.update(
            {
                "first": "Ada", "born": datetime.datetime(1815, 12, 10, tzinfo=datetime.UTC),
                "home": GeoPoint(1.5, 2.5), "boss": Key("Person", 1, project=client.project),
                "tags": ["a", 1], "nested": {"x": 1}, "photo": b"x", "checked": True, **more,
            }
        )  # fmt: skip
        people.append(person)
    client.put_multi(people)
    return Shell(tmp_path, embedded)


def test_everything_that_is_written_passes_at_once(shell: Shell, embedded: Server) -> None:
    before = contents(embedded)
    done = shell.bulkup("new", "add_full_name", "--kind", "Person")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "Wrote add_full_name.py and test_add_full_name.py.\nNext: pytest test_add_full_name.py\n"
    )
    project = ("--project", embedded.project)
    for words in (
        ("no_kind", "--class"),
        ("first", "--migration", "--kind", 'a "kind"\n'),
        ("second", "--migration", "--kind", "Person", "--from-datastore", *project),
        ("third", "--class", "--kind", "Person", "--from-datastore", *project),
        ("elsewhere", "--in", "deep/er"),
    ):
        assert shell.bulkup("new", *words).code == 0, words
    assert written(shell) == [
        "add_full_name.py", "deep/er/elsewhere.py", "deep/er/test_elsewhere.py", "no_kind.py",
        "test_add_full_name.py", "test_no_kind.py", "test_third.py", "third.py",
        "updaters/0001_first.py", "updaters/0002_second.py", "updaters/test_0001_first.py",
        "updaters/test_0002_second.py",
    ]  # fmt: skip
    assert contents(embedded) == before, "it only reads"
    some = ("test_add_full_name.py", "test_third.py", "updaters/test_0002_second.py")
    assert "6 passed in" in session(shell.folder, *some)


def test_what_entities_hold_is_written_down_without_their_values(
    shell: Shell, embedded: Server
) -> None:
    project = ("--project", embedded.project)
    done = shell.bulkup("new", "fix", "--kind", "Person", "--from-datastore", *project)
    assert done.code == 0, done
    source = read(shell, "fix.py")
    assert "# What 3 entities of this kind had when this file was written" in source
    assert '#   "age": int | None (2)' in source
    for line in (
        '"age": NotRequired[int | None],', '"born": datetime,', '"boss": Key,', '"first": str,',
        '"home": GeoPoint,', "'it\\'s \"odd\"\\n': NotRequired[float],", '"tags": list[int | str],',
        '"nested": dict[str, Any],', '"photo": bytes,',
    ):  # fmt: skip
        assert f"        {line}\n" in source, line
    assert 'entity["checked_"] = True' in source, "the property is not one that is there"
    assert "Ada" not in source + read(shell, "test_fix.py")
    assert "1815" not in source + read(shell, "test_fix.py")
    assert shell.bulkup("params", "fix.py").code == 0
    plan = shell.bulkup("run", "-n", "fix.py", *project)
    assert plan.code == 0, plan


def test_an_updater_that_nobody_has_edited_finds_nothing(shell: Shell, embedded: Server) -> None:
    assert shell.bulkup("new", "fix").code == 0
    done = shell.bulkup("run", "fix.py", "--project", embedded.project, "--json")
    assert (done.code, done.summary["counts"]["handled"]) == (0, 0)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("new", "there"), 2, "there.py is there already"),
        (("new", "tested"), 2, "test_tested.py is there already"),
        (("new", "../up"), 2, "not a valid name"),
        (("new", "import"), 2, "is a keyword of Python"),
        (("new", "a", "--kind", ""), 2, "not a valid name for a kind"),
        (("new", "a", "--kind", "__a__"), 2, "not a valid name for a kind"),
        (("new", "a", "--kind", "x" * 1501), 2, "not a valid name for a kind"),
        (("new", "a", "--from-datastore"), 2, "needs --kind"),
        (("new", "a", "--project", "x"), 2, "--project says where --from-datastore looks"),
        (("new", "été", "--migration"), 2, "not a valid name for a migration"),
        (("new", "old", "--migration"), 2, "updaters has 0007_old.py already"),
        (("new", "a", "--in", "there.py"), 2, "cannot be written"),
        (("new", "a", "--migration", "--in", "there.py"), 10, "there is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    nowhere: Shell, words: tuple[str, ...], code: int, says: str
) -> None:
    nowhere.write("there.py", "mine = 1\n")
    nowhere.write("test_tested.py", "mine = 1\n")
    nowhere.write("updaters/0007_old.py", "mine = 1\n")
    before = written(nowhere)
    done = nowhere.bulkup(*words)
    assert done.fails(code, says)
    assert written(nowhere) == before
    assert "mine = 1" in read(nowhere, "there.py")


def test_a_kind_that_is_not_there_is_named_with_what_is(shell: Shell, embedded: Server) -> None:
    words = ("--from-datastore", "--project", embedded.project)
    done = shell.bulkup("new", "fix", "--kind", "Persn", *words)
    assert done.fails(1, "kind 'Persn' has no entities", "(there is 'Person')")
    assert written(shell) == []


def test_the_next_number_follows_the_last_in_the_folder_that_migrate_uses(nowhere: Shell) -> None:
    nowhere.write("bulkup.toml", 'migrations = "changes"\n')
    nowhere.write("changes/009_a.py", "")
    assert nowhere.bulkup("new", "b", "--migration").out.startswith("Wrote changes/010_b.py and ")
    done = nowhere.bulkup("new", "c", "--migration", env={"BULKUP_MIGRATIONS": "others"})
    assert done.out.startswith("Wrote others/0001_c.py and ")
    assert nowhere.bulkup("new", "d").out.startswith("Wrote d.py and "), "no migration"
