"""The folder: its files, their order, their checksums."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.authoring.code_checksum import code_checksum
from bulkup.core.errors import NotFoundError, UpdaterError, UsageError
from bulkup.migrations.folder import find_name, read_folder


def folder(tmp_path: Path, **files: str) -> Path:
    for name, source in files.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def order(path: Path) -> list[str]:
    return [m.name for m in read_folder(path)]


def test_migrations_are_ordered_by_name(tmp_path: Path) -> None:
    path = folder(tmp_path, **{"0010_c": "", "0002_b": "", "0001_a": "", "_helper": ""})
    (tmp_path / "notes.txt").write_text("")
    assert order(path) == ["0001_a", "0002_b", "0010_c"]


def test_numbers_are_ordered_as_numbers_and_equal_ones_by_name(tmp_path: Path) -> None:
    names = ("10_e", "9_d", "0002_c", "2_b", "02_a")
    path = folder(tmp_path, **dict.fromkeys(names, ""))
    assert order(path) == ["0002_c", "02_a", "2_b", "9_d", "10_e"]


def test_files_without_a_number_are_helpers_unless_a_ledger_knows_them(tmp_path: Path) -> None:
    files = {"1_a": "", "old": "", "older": 'after = ["1_a"]', "helper": "def", "a b": "", "ä": ""}
    path = folder(tmp_path, **files)
    assert order(path) == ["1_a"]
    known = read_folder(path).with_known(["old", "older", "gone"])
    assert [file.name for file in known] == ["1_a", "old", "older"]


def test_a_file_that_a_migration_names_in_after_is_one(tmp_path: Path) -> None:
    path = folder(tmp_path, **{"1_a": 'after = ["base"]', "base": 'after = ["root"]', "root": ""})
    assert order(path) == ["root", "base", "1_a"]


UPDATERS = [
    "import bulkup\n@bulkup.updater(kind='A')\ndef a(entity): ...",
    "from bulkup import updater\n@updater(kind='A')\ndef a(entity): ...",
    "class A(Updater): ...",
    "import bulkup as b\nclass A(Mixin, b.BulkDelete): ...",
]
HELPERS = ["", "def updater(): ...", "class A(Base): ...", "x = Updater", "not python"]


@pytest.mark.parametrize("source", UPDATERS + HELPERS)
def test_an_updater_is_told_from_a_helper_without_running_it(tmp_path: Path, source: str) -> None:
    found = read_folder(folder(tmp_path, a=source)).updaters_without_number
    assert found == (("a",) if source in UPDATERS else ())


def test_after_moves_only_that_migration(tmp_path: Path) -> None:
    path = folder(
        tmp_path, **{"1": 'after = ["3.py"]', "2": "", "3": "after: list[str] = []", "4": ""}
    )
    assert order(path) == ["2", "3", "1", "4"]


def test_a_circular_dependency_is_named(tmp_path: Path) -> None:
    path = folder(
        tmp_path, **{"1": 'after = ["3"]', "2": 'after = ["1"]', "3": 'after = ["2"]', "4": ""}
    )
    with pytest.raises(UsageError, match=r"circular `after` dependency: 1, 3, 2$"):
        read_folder(path)


def test_a_migration_after_a_cycle_is_not_part_of_it(tmp_path: Path) -> None:
    path = folder(tmp_path, **{"1": 'after = ["2"]', "2": 'after = ["3"]', "3": 'after = ["2"]'})
    with pytest.raises(UsageError, match=r"circular `after` dependency: 2, 3$"):
        read_folder(path)


def test_a_missing_predecessor_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path, **{"0001_add": "", "0002": 'after = ["0001_ad"]'})
    with pytest.raises(UsageError, match=r"0002 names 0001_ad in `after`.*mean 0001_add"):
        read_folder(path)


@pytest.mark.parametrize("value", ["names()", "'m1'", "[1]", "[x for x in y]", "1 + 'a'"])
def test_after_is_read_without_running_the_file(tmp_path: Path, value: str) -> None:
    path = folder(tmp_path, **{"1": "", "2": f"raise SystemExit\nafter = {value}"})
    with pytest.raises(UsageError, match="line 2"):
        read_folder(path)


def test_invalid_python_is_reported_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UpdaterError, match=r"0001\.py is not valid Python \(line 2\)"):
        read_folder(folder(tmp_path, **{"0001": "x = 1\ndef"}))
    (tmp_path / "0001.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(UpdaterError, match=r"0001\.py is not valid Python"):
        read_folder(tmp_path)


def test_a_name_unfit_for_keys_or_folders_is_refused(tmp_path: Path) -> None:
    for name in ("0001 b", "1ä", "1" * 201):
        path = tmp_path / f"{name}.py"
        path.write_text("")
        with pytest.raises(UsageError, match="is not a valid name for a migration"):
            read_folder(tmp_path)
        path.unlink()


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        read_folder(tmp_path / "nope")


def test_a_migration_can_be_given_by_prefix_or_file() -> None:
    names = ["0001_a", "0002_b", "0002_b_more"]
    assert find_name(names, "0001") == "0001_a"
    assert find_name(names, "0002_b") == "0002_b"
    assert find_name(names, "updaters/0001_a.py") == "0001_a"
    for given, error in (("0002", UsageError), ("x", NotFoundError), ("", NotFoundError)):
        with pytest.raises(error):
            find_name(names, given)


SAME = [
    "def f(a, b):\n    return f'{a + b!r:>{b}} x'\n",
    "def f(a, b):  # adds\n\n    # really\n    return f'{a + b!r:>{b}} x'",
    "\r\n\r\ndef f(\r\n    a,\r\n    b):\r\n\treturn   f'{a + b!r:>{b}} x'\r\n\r\n",
]
OTHERS = [
    "def f(a, b):\n    return f'{a  + b!r:>{b}} x'\n",  # inside a string, every space counts
    "def f(a, b):\n    return f'{a + b!r:>{b}}  x'\n",
    "def f(a, b):\n    return f'{a + b!r:>{b}} x'\nf\n",
    "def f(a, c):\n    return f'{a + b!r:>{b}} x'\n",
]


def test_the_checksum_ignores_only_comments_and_layout() -> None:
    (same,) = {code_checksum(source.encode()) for source in SAME}
    assert len({same, *(code_checksum(source.encode()) for source in OTHERS)}) == 5


def test_significant_layout_changes_the_checksum() -> None:
    inside = code_checksum(b"if x:\n    a\n    b\n")
    assert inside != code_checksum(b"if x:\n    a\nb\n")


def test_unicode_line_separators_are_not_line_ends() -> None:
    one, other = (f"s = '\u2028\x0c'\nt = f'{name}'\n".encode() for name in ("x", "y"))
    assert code_checksum(one) != code_checksum(other)


def test_the_checksum_is_the_same_on_every_python_version() -> None:
    """Ledgers store it: another Python version must compute the same one."""
    source = "\ufeffdef f(a):\n    return f'''{a!r}\n {a:{a}} {f\"{a}\"}''' + b'x'.hex()  # é\n"
    assert code_checksum(source.encode()) == (
        "f290f4d96d97e5a85935f384fbfacfb1a72599083e05de11c9cdccb07c73d564"
    )
