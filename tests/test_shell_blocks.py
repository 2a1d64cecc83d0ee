"""Every block of shell commands in the README and the docs is executed, line by line."""

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

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ELSEWHERE = {
    "pip install . && bulkup demo": "`.ci/run`, in a clean clone",
    "pip install -e '.[test]' && pytest": "`.ci/run`, in a clean clone",
    "pip install 'bulkup[": "`.ci/run`: the extra `test` has all of them",
    "gcloud run jobs": "it needs an account; only its syntax is checked",
}
"""What this file does not execute, and who does."""

BEFORE = {
    "bulkup resume": "bulkup run full_name.py --project shop --new --limit 1",
    "bulkup undo RUN --yes": "bulkup run full_name.py --project shop --new -p sep=-",
    "bulkup abandon": "bulkup run full_name.py --project shop --new --limit 1",
    "bulkup mark 0002_price_to_cents --renamed-to": (
        "mv updaters/0002_price_to_cents.py updaters/0002_cents.py"
    ),
}
"""What has to happen first, so that a line does what it says."""

EXIT = {
    "bulkup run full_name.py --project shop --new --limit 1": 75,
    "bulkup unlock": 10,  # no process holds it
    "bulkup run full_name.py --project shop --keys-from left.jsonl": 2,  # nothing was found
    "bulkup diff": 4,  # the sides differ
}
"""Commands that do not exit with 0."""

UPDATER = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[0]


def blocks(page: Path) -> Iterator[str]:
    yield from re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)


def commands(block: str) -> Iterator[str]:
    """The commands of a block: a line each, without its comment; a here-document is one."""
    waiting: list[str] = []
    for line in block.splitlines():
        waiting.append(line)
        text = "\n".join(waiting)
        if line.endswith("\\") or ("<<END" in waiting[0] and line != "END"):
            continue
        waiting = []
        yield text if "<<END" in text else re.sub(r"\s{2,}#.*", "", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_shell_block_is_valid_shell(page: Path) -> None:
    for block in blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, (block, done.stderr)


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    """A folder with what the pages speak of, and two people in `--project shop`, which is another
    project for each page: they are tested at the same time."""
    shell = Shell(tmp_path, embedded)
    shell.write("full_name.py", UPDATER)
    for page in PAGES:  # those that begin with the name of their file
        text = page.read_text()
        for name, block in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.S):
            shell.write(name, block)
    shell.write("updaters/0001_add_full_name.py", UPDATER)
    shell.write("updaters/0002_price_to_cents.py", UPDATER.replace("full_name(", "again("))
    for server in (embedded, replace(embedded, project=_shop(embedded))):
        client = server.client()
        put(client, [entity(client, "Person", i, first="Ada", last="Lovelace") for i in (1, 2)])
    shell.environment["SHOP"] = _shop(embedded)
    return shell


def _shop(server: Server) -> str:
    return f"{server.project}-shop"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(blocks(page))], ids=lambda p: p.name
)
def test_every_shell_command_of_the_pages_works(page: Path, shell: Shell) -> None:
    for block in blocks(page):
        if any(command in block for command in ELSEWHERE):
            continue
        for command in commands(block):
            for before in [BEFORE[start] for start in BEFORE if command.startswith(start)]:
                execute(shell, before)
            execute(shell, command)


def execute(shell: Shell, command: str) -> None:
    expected = next((EXIT[start] for start in EXIT if command.startswith(start)), 0)
    command = command.replace("--project shop", f"--project {shell.environment['SHOP']}")
    if not command.startswith("bulkup ") or re.search(r"[|<>$]", command):
        program = f'bulkup() {{ {shlex.quote(sys.executable)} -m bulkup "$@"; }}; {command}'
        done = subprocess.run(
            ["bash", "-euc", program],
            cwd=shell.folder, env=shell.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == expected, (command, done)
        return
    run_id = shell.runs()[-1] if shell.runs() else ""
    words = [{"RUN": run_id, "NAME": "0002"}.get(word, word) for word in shlex.split(command)[1:]]
    env = {"DATASTORE_EMULATOR_HOST": ""} if "--local" in words else {}
    # Where a person at a terminal would be asked, a process without one must say --yes.
    asks = ["--yes"] if words[0] in ("abandon", "prune") else []
    result = shell.bulkup(*words, *asks, env=env)
    assert result.code == expected, (command, result)
