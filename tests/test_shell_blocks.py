"""Every block of shell commands in the README and the docs is executed, line by line.

A page in a folder of docs/ (tutorial, how-to) stands for itself: its commands begin in an empty
folder, with the files that the page shows, and without a server. The others share a folder and two
people on a server.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.shell import Shell, entity, put
from tests.conftest import Server
from tests.doc_blocks import PAGES, ROOT, Block, blocks_of, name_of

BEFORE = {
    "bulkup resume": "bulkup run full_name.py --project shop --new --limit 1",
    "bulkup pause": "bulkup run full_name.py --project shop --new --limit 1",
    "bulkup undo RUN --yes": "bulkup run full_name.py --project shop --new -p sep=-",
    "bulkup abandon": "bulkup run full_name.py --project shop --new --limit 1",
    "bulkup mark 0002_price_to_cents --renamed-to": (
        "mv updaters/0002_price_to_cents.py updaters/0002_cents.py"
    ),
}
"""What has to happen first, so that a line of a page with shared data does what it says."""

EXIT = {
    "bulkup run full_name.py --project shop --new --limit 1": 75,
    "bulkup unlock": 10,  # no process holds it
    "bulkup run full_name.py --project shop --keys-from left.jsonl": 2,  # nothing was found
    "bulkup diff": 4,  # the sides differ
}
"""Commands that do not exit with 0. A page that stands for itself says so: `# exit 75`."""

UPDATER = next(b.text for b in blocks_of(ROOT / "README.md") if b.file_name == "full_name.py")
SHARED = [page for page in PAGES if page.parent in (ROOT, ROOT / "docs")]
ALONE = [page for page in PAGES if page not in SHARED]
TUTORIAL = [page for page in ALONE if page.parent.name == "tutorial"]


def commands(block: str) -> Iterator[str]:
    """The commands of a block, a line each; a here-document is one. Comments may follow."""
    waiting: list[str] = []
    for line in block.splitlines():
        waiting.append(line)
        text = "\n".join(waiting)
        if line.endswith("\\") or ("<<END" in waiting[0] and line != "END"):
            continue
        waiting = []
        yield text


def without_comment(command: str) -> str:
    return command if "<<END" in command else re.sub(r"\s{2,}#.*", "", command)


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "bash"]


def with_shell(pages: list[Path]) -> pytest.MarkDecorator:
    found = [page for page in pages if shell_blocks(page)]
    return pytest.mark.parametrize("page", found, ids=name_of)


@with_shell(PAGES)
def test_every_shell_block_is_valid_shell(page: Path) -> None:
    for block in shell_blocks(page):
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        assert done.returncode == 0, (block, done.stderr)


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    """A folder with what the pages speak of, and two people in `--project shop`, which is another
    project for each page: they are tested at the same time."""
    shell = Shell(tmp_path, embedded)
    shell.write("full_name.py", UPDATER)
    for block in (block for page in SHARED for block in blocks_of(page)):
        if block.language == "python" and block.file_name:
            shell.write(block.file_name, block.text)
    shell.write("updaters/0001_add_full_name.py", UPDATER)
    shell.write("updaters/0002_price_to_cents.py", UPDATER.replace("full_name(", "again("))
    for server in (embedded, replace(embedded, project=_shop(embedded))):
        client = server.client()
        put(client, [entity(client, "Person", i, first="Ada", last="Lovelace") for i in (1, 2)])
    shell.environment["SHOP"] = _shop(embedded)
    return shell


def _shop(server: Server) -> str:
    return f"{server.project}-shop"


@with_shell([ROOT / "README.md"])
def test_every_shell_command_of_the_readme_works(page: Path, shell: Shell) -> None:
    do_all(page, shell)


@pytest.mark.one_in(3)
@with_shell([page for page in SHARED if page.parent != ROOT])
def test_every_shell_command_of_the_pages_works(page: Path, shell: Shell) -> None:
    do_all(page, shell)


def do_all(page: Path, shell: Shell) -> None:
    for block in shell_blocks(page):
        for command in map(without_comment, () if block.not_run else commands(block.text)):
            for before in [BEFORE[start] for start in BEFORE if command.startswith(start)]:
                execute(shell, before)
            execute(shell, command)


@with_shell(TUTORIAL)
def test_the_tutorial_works_as_it_is_written(page: Path, tmp_path: Path) -> None:
    work_through(page, tmp_path)


@pytest.mark.one_in(3)
@with_shell([page for page in ALONE if page not in TUTORIAL])
def test_a_page_that_stands_for_itself_works_as_it_is_written(page: Path, tmp_path: Path) -> None:
    work_through(page, tmp_path)


def work_through(page: Path, tmp_path: Path) -> None:
    """The files are written as the page comes to them; what it says a command prints is printed."""
    shell, output = Shell(tmp_path), ""
    for block in blocks_of(page):
        if block.not_run:
            continue
        if block.language == "bash":
            output = "".join(execute(shell, command) for command in commands(block.text))
        elif block.file_name:
            shell.write(block.file_name, block.text)
        elif block.language == "text":
            assert_prints(output, block)


def assert_prints(output: str, block: Block) -> None:
    """The block's words are in the output; `...` stands for what the page leaves out."""
    rest = _plain(output)
    for part in map(_plain, block.text.split("...")):
        assert part in rest, f"{block}: {part!r} is not in {rest!r}"
        rest = rest.partition(part)[2]


def _plain(text: str) -> str:
    """Without what differs from run to run and from one width of a terminal to another."""
    text = re.sub(r"\b\d{8}-\d{6}-\w+", "RUN", text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "N s", text)
    text = re.sub(r"\b\d{16}\b", "ID", text)
    return " ".join(text.split())


def run_pytest(shell: Shell, words: list[str]) -> str:
    """A user's pytest, which has no plugins but bulkup's."""
    program = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    plugins = ["-p", "pytest_bulkup", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-c", program, *plugins, *words],
        cwd=shell.folder, capture_output=True, text=True,
        env={**shell.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout


def expanded(shell: Shell, command: str) -> list[str]:
    """The words after `bulkup`, as a shell passes them on: `$(cat before)` is what it prints."""
    if "$" not in command:
        return shlex.split(command)[1:]
    program = f"set -- {command}; printf '%s\\0' \"$@\""
    done = subprocess.run(
        ["bash", "-euc", program], cwd=shell.folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[1:-1]


def execute(shell: Shell, command: str, *, with_errors: bool = True) -> str:
    """Run one command, from a warm process where it is bulkup alone. Return what it prints."""
    said = re.search(r"  # exit (\d+)$", command)
    expected = next((EXIT[start] for start in EXIT if command.startswith(start)), 0)
    expected = int(said[1]) if said else expected
    command = without_comment(command)
    if "SHOP" in shell.environment:
        command = command.replace("--project shop", f"--project {shell.environment['SHOP']}")
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", lambda quoted: "_" * len(quoted[0]), command)
    if passed_on := re.fullmatch(r"bulkup [^|<>]+ ([|>]) [^|<>]+", unquoted):
        output = execute(shell, command[: passed_on.start(1) - 1], with_errors=False)
        rest = command[passed_on.end(1) + 1 :]
        reader = rest if passed_on[1] == "|" else f"cat > {rest}"
        return subprocess.run(
            ["bash", "-euc", reader],
            cwd=shell.folder, input=output, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    if command.startswith("pytest "):
        return run_pytest(shell, shlex.split(command)[1:])
    if not command.startswith("bulkup ") or re.search(r"[|<>]", unquoted):
        program = f'bulkup() {{ {shlex.quote(sys.executable)} -m bulkup "$@"; }}; {command}'
        done = subprocess.run(
            ["bash", "-euc", program],
            cwd=shell.folder, env=shell.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == expected, (command, done)
        return done.stdout + done.stderr
    runs = shell.runs() or [""]
    names = {"RUN": runs[-1], "RUN2": runs[0], "NAME": "0002"}
    words = [names.get(word, word) for word in expanded(shell, command)]
    env = {"DATASTORE_EMULATOR_HOST": ""} if "--local" in words else {}
    # Where a person at a terminal would be asked, a process without one must say --yes.
    asks = ["--yes"] if words[0] in ("abandon", "prune") and "--yes" not in words else []
    result = shell.bulkup(*words, *asks, env=env)
    assert result.code == expected, (command, result)
    return result.out + (result.err if with_errors else "")
