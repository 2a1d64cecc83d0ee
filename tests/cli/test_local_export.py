"""`bulkup local load --from-export` and `bulkup local dump --export`, as at a shell."""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import IO

import pytest

from bulkup.local import messages as m
from bulkup.local.access import LocalFile
from bulkup.local.encoding import Partition
from bulkup.local.exports.writer import ExportWriter
from bulkup.local.file import half_loaded_path, lock
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, ended
from tests.local.exports.bucket import serving
from tests.local.importing.made import entity

pytestmark = pytest.mark.sampled(5)

UNINDEXED = m.Value(string_value="x" * 350, exclude_from_indexes=True)
LOADED = """\
5 entities of 3 kinds in 2 namespaces loaded into shop.db.
             1  Bio
             2  Person
             1  Toy
             1  Person (namespace n)
1 entity NOT loaded, which FILE cannot hold:
             1  __Stat__: The kind "__Stat__" is reserved; the first is [__Stat__: 1]
1 entity loaded as they are that Datastore would not accept today. An updater that puts one of \
them fails, unless it changes this:
             1  Bio: The value of property "text" is longer than 1500 bytes; the first is [Bio: 1]
"""


@pytest.fixture
def shop(nowhere: Shell) -> Shell:
    """A shell beside a folder `export`."""
    with ExportWriter(nowhere.folder / "export") as writer:
        for one in (
            entity("Person", 1, n=1), entity("Person", 2, n=2), entity("Toy", 1),
            entity("Person", 1, namespace="n"), entity("__Stat__", 1),
            entity("Bio", 1, text="x" * 1501),
        ):  # fmt: skip
            writer.write(one)
    return nowhere


def test_a_load_says_what_is_loaded_and_what_is_not(shop: Shell) -> None:
    done = shop.bulkup("local", "load", "shop.db", "--from-export", "export")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == LOADED.splitlines()
    again = shop.bulkup("local", "load", "shop.db", "--from-export", "export")
    first = (
        "shop.db holds this already: 5 entities of 3 kinds in 2 namespaces. Nothing was written."
    )
    assert again.err.splitlines() == [first, *LOADED.splitlines()[1:]]
    dumped = shop.bulkup("local", "dump", "shop.db", "--kind", "Person")
    assert [json.loads(line)["n"] for line in dumped.out.splitlines()] == [1, 2]


def test_what_is_left_out_is_said(shop: Shell) -> None:
    only = ("--kind", "Toy", "--kind", "Bio", "--namespace", "")
    done = shop.bulkup("local", "load", "shop.db", "--from-export", "export", *only)
    assert "2 entities of 2 kinds loaded into shop.db.\n" in done.err
    assert "4 entities left out: of other kinds or namespaces.\n" in done.err
    only = ("--kind", "Toy", "--kind", "toys")
    done = shop.bulkup("local", "load", "3.db", "--from-export", "export", *only)
    assert done.err.endswith("No entity of kind toys was loaded; check its name (case matters).\n")
    done = shop.bulkup("local", "dump", "3.db", "--export", "toys", *only)
    assert done.err.endswith("No entity of kind toys was dumped; check its name (case matters).\n")
    done = shop.bulkup("local", "load", "4.db", "--from-export", "export", "--kind", "toys")
    done.fails(2, "none of the 6 entities of the export is of kind toys")
    assert not (shop.folder / "4.db").exists()
    done = shop.bulkup("local", "load", "2.db", "--from-export", "export", "--sample", "0.001%")
    assert "0 entities loaded into 2.db.\n" in done.err
    assert "5 entities left out: not in the sample.\n" in done.err


def test_the_counts_are_lines_of_json(shop: Shell) -> None:
    load = ("local", "load", "shop.db", "--from-export", "export", "--json")
    done = shop.bulkup(*load, "--kind", "Person", "--kind", "Bio", "--kind", "toys")
    (line,) = done.of_type("loaded")
    assert (done.code, done.err, len(done.lines)) == (0, "", 1)
    assert (line["file"], line["source"], line["entities"]) == ("shop.db", "export", 4)
    export = line["export"]
    assert export["kinds"] == [
        {"namespace": "", "kind": "Bio", "entities": 1},
        {"namespace": "", "kind": "Person", "entities": 2},
        {"namespace": "n", "kind": "Person", "entities": 1},
    ]
    assert (export["exported"], export["left_out"], export["empty_kinds"]) == (6, 2, ["toys"])
    assert export["irregular"][0]["first"] == "[Bio: 1]"
    dumped = shop.bulkup("local", "dump", "shop.db", "--export", "out", "--json")
    assert (dumped.code, dumped.err) == (0, "")
    (written,) = dumped.of_type("dumped")
    assert (written["folder"], written["entities"], written["empty_kinds"]) == ("out", 4, [])
    (shop.folder / "items.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    lines = shop.bulkup("local", "load", "2.db", "items.jsonl", "--kind", "Item", "--json")
    assert (lines.code, lines.err) == (0, "")
    (loaded,) = lines.of_type("loaded")
    assert (loaded["entities"], loaded["with_new_ids"], loaded["export"]) == (2, 2, None)
    for result in (done, dumped, lines):
        keeps_the_contract(result.lines)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("load shop.db --from-export nowhere", 2, "there is no export at nowhere"),
        ("load shop.db items.jsonl", 1, "name the kind"),
        ("dump shop.db --export export", 2, "export"),
        ("dump shop.db", 2, "--json is for --export"),
    ],
)
def test_an_error_is_a_line_of_json_too(shop: Shell, words: str, code: int, text: str) -> None:
    (shop.folder / "items.jsonl").write_text('{"n": 1}\n')
    assert shop.bulkup("local", "load", "shop.db", "--from-export", "export").code == 0
    result = shop.bulkup("local", *words.split(), "--json")
    assert result.code == code, result
    (error,) = result.lines
    assert (error["type"], error["exit_code"]) == ("error", code)
    assert text in error["message"]
    keeps_the_contract(result.lines)


def test_a_file_with_data_is_only_replaced_if_asked(shop: Shell) -> None:
    shop.write("bump.py", BUMP)
    (shop.folder / "items.jsonl").write_text('{"n": 1}\n')
    shop.bulkup("local", "load", "shop.db", "items.jsonl", "--kind", "Item")
    load = ("local", "load", "shop.db", "--from-export", "export")
    shop.bulkup(*load).fails(2, "shop.db exists already; load into a new file, or add --replace")
    assert shop.bulkup(*load, "--replace").code == 0
    assert shop.bulkup("local", "dump", "shop.db", "--kind", "Item").out == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "there is nothing to load; name a file of JSON lines, or --from-export"),
        (("a", "--from-export", "export"), "DATA and --from-export cannot be used together"),
        (("--from-export", "export", "--id-field", "x"), "have keys; leave it out"),
        (("a", "--sample", "1%"), "--sample is for exports only"),
        (("a", "--replace"), "--replace is for exports only"),
        (("a", "--kind", "A", "--kind", "B"), "--kind can be given once"),
        (("a", "--namespace", "A", "--namespace", "B"), "--namespace can be given once"),
        (("--from-export", "export", "--sample", "2"), "'2' is not a sample; write a percentage"),
        (("--from-export", "no"), "there is no export at no: no such file or folder"),
        (("--from-export", "empty"), "is not an export"),
        (("--from-export", "gs://"), "gs:// is not an address; write gs://BUCKET/FOLDER"),
        (("--from-export", "export", "--project", "a b"), "is an invalid app id"),
        (
            ("--from-export", "export", "--database", "(default)"),
            "the name of the default database is empty",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(shop: Shell, args: tuple[str, ...], said: str) -> None:
    (shop.folder / "a").touch()
    (shop.folder / "empty").mkdir()
    done = shop.bulkup("local", "load", "shop.db", *args)
    assert done.code == 2
    assert said in done.err.splitlines()[-1]
    assert not (shop.folder / "shop.db").exists()
    assert not (shop.folder / "shop.db-loading").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_export_is_one_sentence_and_leaves_nothing(shop: Shell, damage: str) -> None:
    file = next((shop.folder / "export").rglob("output-0"))
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytes([*content[:300], content[300] ^ 1, *content[301:]])
        file.write_bytes(content[:-10] if damage == "cut" else flipped)
    done = shop.bulkup("local", "load", "shop.db", "--from-export", "export")
    done.fails(1, "output-0")
    assert len(done.err.splitlines()) == 1
    assert {path.name for path in shop.folder.glob("shop.db*")} <= {"shop.db-lock"}


def waits_for_more(process: subprocess.Popen[str], stream: IO[bytes]) -> bool:
    """Whether a process has read all that was written to a pipe, and waits for more."""
    unread = array.array("i", [0])
    fcntl.ioctl(stream, termios.FIONREAD, unread)
    waiting = Path(f"/proc/{process.pid}/wchan").read_text()
    return not unread[0] and "pipe_read" in waiting


TAKES_PIPES = """
import os
from bulkup.cli import main
from bulkup.local.exports.source import LocalFolder
LocalFolder.size = lambda *_: int(os.environ["SIZE"])
main()
"""
"""`bulkup`, which refuses a pipe in an export, because reading it might wait forever."""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what a process waits for")
def test_ctrl_c_and_a_kill_are_resumed_by_the_same_command(nowhere: Shell) -> None:
    file = nowhere.folder / "export" / "all_namespaces" / "all_kinds" / "output-0"
    with ExportWriter(nowhere.folder / "export") as writer:
        for number in range(1, 12_001):
            writer.write(entity("Person", number, n=number, unread=UNINDEXED))
    content = file.read_bytes()
    command = ("local", "load", "shop.db", "--from-export", "export")
    for number in (signal.SIGINT, signal.SIGKILL):
        file.unlink()
        os.mkfifo(file)
        process = subprocess.Popen(
            [sys.executable, "-c", TAKES_PIPES, *command], cwd=nowhere.folder,
            env={**nowhere.environment, "SIZE": str(len(content))},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with file.open("wb", buffering=0) as stream:
            stream.write(content[: len(content) * 3 // 4])
            while not waits_for_more(process, stream):
                assert process.poll() is None, ended(process)
            process.send_signal(number)
            result = ended(process)
        file.unlink()
        file.write_bytes(content)
        if number == signal.SIGINT:
            result.fails(130, "interrupted; 4,000 entities are in shop.db-loading; to resume, type")
        else:
            assert result.code == -signal.SIGKILL
        assert not (nowhere.folder / "shop.db").exists()
    done = nowhere.bulkup(*command)
    assert done.err.startswith(
        "Resumed after 4,000 entities that had been loaded before.\n"
        "12,000 entities loaded into shop.db.\n"
    )
    assert not half_loaded_path(nowhere.folder / "shop.db").exists()
    with LocalFile(nowhere.folder / "shop.db", Partition("local", "", "")) as opened:
        found = [one.properties["n"].integer_value for one in opened.entities("")]
    assert found == [*range(1, 12_001)]


def test_a_half_loaded_file_is_refused_by_every_command(nowhere: Shell) -> None:
    nowhere.write("bump.py", BUMP)
    (nowhere.folder / "shop.db-loading").touch()
    for words in ("run bump.py --local shop.db", "local dump shop.db", "local serve shop.db"):
        refused = nowhere.bulkup(*words.split())
        assert refused.code in (1, 2)
        assert not (nowhere.folder / "shop.db").exists()
    (nowhere.folder / "items.jsonl").write_text('{"n": 1}\n')
    load = nowhere.bulkup("local", "load", "shop.db", "items.jsonl", "--kind", "Item")
    load.fails(1, "is not loaded completely", "type that command again to finish it")


def test_a_file_that_is_open_is_not_replaced(shop: Shell) -> None:
    held = lock(shop.folder / "shop.db")
    try:
        done = shop.bulkup("local", "load", "shop.db", "--from-export", "export", "--replace")
        done.fails(1, "shop.db is already open in process")
    finally:
        os.close(held)


def test_an_export_in_a_bucket_is_loaded(shop: Shell, tmp_path: Path) -> None:
    bucket = shop.folder / "buckets" / "nightly"
    bucket.mkdir(parents=True)
    (shop.folder / "export").rename(bucket / "tonight")
    with serving(bucket.parent) as (host, _):
        shop.environment["STORAGE_EMULATOR_HOST"] = host
        done = shop.bulkup("local", "load", "shop.db", "--from-export", "gs://nightly/tonight")
        assert (done.code, done.err) == (0, LOADED)
        missing = shop.bulkup("local", "load", "2.db", "--from-export", "gs://nightly/no")
        missing.fails(2, "gs://nightly/no/ is not an export")


# --- dump ---


def test_a_dump_is_loaded_again(shop: Shell) -> None:
    shop.write("bump.py", BUMP)
    (shop.folder / "items.jsonl").write_text('{"id": 1, "n": 1}\n{"id": 2, "n": 5}\n')
    shop.bulkup("local", "load", "one.db", "items.jsonl", "--kind", "Item", "--id-field", "id")
    assert shop.bulkup("run", "bump.py", "--local", "one.db").code == 0
    done = shop.bulkup("local", "dump", "one.db", "--export", "out")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("2 entities dumped into out.\n")
    assert "run records of bulkup were left out (--kind dumps them)." in done.err
    assert shop.bulkup("local", "load", "two.db", "--from-export", "out").code == 0
    dumps = [shop.bulkup("local", "dump", file).out for file in ("one.db", "two.db")]
    assert dumps[0] == dumps[1] != ""
    shop.bulkup("local", "dump", "one.db", "--export", "out").fails(2, "out is there already")


@pytest.mark.parametrize("option", [("--limit", "1"), ("--lossless",)])
def test_a_dump_into_a_folder_has_no_forms(shop: Shell, option: tuple[str, ...]) -> None:
    (shop.folder / "items.jsonl").write_text('{"n": 1}\n')
    shop.bulkup("local", "load", "one.db", "items.jsonl", "--kind", "Item")
    done = shop.bulkup("local", "dump", "one.db", "--export", "out", *option)
    assert done.code == 2
    assert "cannot be used together: an export holds whole entities" in done.err


def test_progress_shows_on_a_terminal_alone(shop: Shell) -> None:
    done = shop.bulkup("local", "load", "shop.db", "--from-export", "export")
    assert "Loading" not in done.err


def test_names_in_an_export_are_shown_inert(nowhere: Shell) -> None:
    with ExportWriter(nowhere.folder / "export") as writer:
        writer.write(entity("K\x1b[31m[bold]", 1))
        writer.write(entity("__\x1b]0;x__", 1))
    done = nowhere.bulkup("local", "load", "shop.db", "--from-export", "export")
    assert "\x1b" not in done.err
    assert "K\\x1b[31m[bold]" in done.err
