"""`bulkup demo`: what it shows is true, and what it suggests works."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bulkup.cli.demo_shop import NEXT, ODD, STEPS, UPDATER, examples, products
from tests.cli.nursery import REPOSITORY
from tests.cli.shell import TIMEOUT_S, Result, Shell

pytestmark = pytest.mark.sampled(9)


def typed(shell: Shell, folder: Path, line: str) -> Result:
    """A line as a user types it into a shell, with bulkup on the PATH."""
    command = f'bulkup() {{ {shlex.quote(sys.executable)} -m bulkup "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=shell.environment, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def start_typed(shell: Shell, folder: Path, line: str) -> subprocess.Popen[bytes]:
    """The same, without waiting for it."""
    words = shlex.split(line)[1:]
    return subprocess.Popen(
        [sys.executable, "-m", "bulkup", *words],
        cwd=folder, env=shell.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def prices(shell: Shell, folder: Path) -> list[dict[str, object]]:
    dumped = typed(shell, folder, "bulkup local dump shop.db --kind Product")
    return [json.loads(line) for line in dumped.out.splitlines()]


def test_the_demo_shows_what_it_runs_and_leaves_a_shop_to_continue_with(nowhere: Shell) -> None:
    result = nowhere.bulkup("demo")
    assert result.code == 0, result
    folder = nowhere.folder / "bulkup-demo"
    shown = [line[2:] for line in result.out.splitlines() if line.startswith("$ ")]
    assert shown[0] == "cd bulkup-demo"
    ran = [line for step in STEPS for line in step.commands]
    assert shown[1 : 1 + len(ran)] == ran
    assert '"price": "81.18"' in result.out
    assert '"price_cents": 8118' in result.out
    assert "nothing was written" in result.out
    assert "So far: 700 entities handled, 700 written, 0 failed" in result.out
    assert "Finished, but 1 entity failed: 2,000 entities handled, 1,999 written" in result.out
    assert f"Key('Product', '{ODD}')" in result.out
    assert len((result.out + result.err).splitlines()) < 120
    assert {e.get("price_cents") for e in prices(nowhere, folder)} == {
        None if one["sku"] == ODD else int(str(one["price"]).replace(".", "")) for one in products()
    }
    assert (folder / UPDATER).read_bytes() == (REPOSITORY / "updaters" / UPDATER).read_bytes()
    assert not (nowhere.folder / ".bulkup").exists()


@pytest.mark.chaos
def test_what_it_proposes_to_try_does_what_it_says(nowhere: Shell) -> None:
    assert nowhere.bulkup("demo", "shop").code == 0
    folder = nowhere.folder / "shop"
    again, interrupted = NEXT
    load, run = (typed(nowhere, folder, line) for line in again.commands)
    assert load.code == 0, load
    assert run.code == 0, run
    assert "2,000 entities handled, 1 written" in run.out
    assert "it leaves alone what is done" in again.text
    assert "Left alone  1,999 (the updater did not put or delete these)" in run.out
    assert all("price_cents" in e and "price" not in e for e in prices(nowhere, folder))
    reload, slow, resume = interrupted.commands
    assert typed(nowhere, folder, reload).code == 0
    process = start_typed(nowhere, folder, slow)
    while not list(folder.glob(".bulkup/*/checkpoint.sqlite-wal")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 130
    assert typed(nowhere, folder, resume).code == 3
    assert [e["sku"] for e in prices(nowhere, folder) if "price" in e] == [ODD]


def test_options_in_the_environment_are_for_real_runs(nowhere: Shell) -> None:
    env = {"BULKUP_RUN_LIMIT": "1", "BULKUP_RUN_STATE_DIR": "/nowhere", "BULKUP_LIST_JSON": "1"}
    result = nowhere.bulkup("demo", env=env)
    assert result.code == 0, result
    assert "1,999 written" in result.out


def test_a_directory_that_is_not_empty_is_left_alone(nowhere: Shell) -> None:
    kept = nowhere.write("bulkup-demo/mine.txt", "mine")
    nowhere.bulkup("demo").fails(2, "'bulkup-demo'", "does not touch", "bulkup demo DIR")
    assert [p.name for p in kept.parent.iterdir()] == ["mine.txt"]
    nowhere.bulkup("demo", "bump.py").fails(2, "'bump.py'")
    nowhere.bulkup("demo", "bump.py/sub").fails(2, "name another one")
    (nowhere.folder / "empty").mkdir()
    assert nowhere.bulkup("demo", "empty").code == 0


def test_the_sample_is_always_the_same_and_all_of_it_can_be_converted() -> None:
    first, second = list(products()), list(products())
    assert first == second
    assert len({one["sku"] for one in first}) == len({one["name"] for one in first}) == 2000
    assert len({one["price"] for one in first}) > 1000
    assert examples() == REPOSITORY / "updaters"


@pytest.mark.slow
def test_an_installed_wheel_has_everything_the_demo_needs(nowhere: Shell, tmp_path: Path) -> None:
    def call(*args: object) -> str:
        done = subprocess.run(
            [*map(str, args)], cwd=tmp_path, capture_output=True, text=True, timeout=200,
            env={k: v for k, v in nowhere.environment.items() if k != "PYTHONPATH"},
        )  # fmt: skip
        assert done.returncode == 0, done
        return done.stdout

    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "wheel", REPOSITORY)
    call(sys.executable, "-m", "venv", "venv")
    (wheel,) = (tmp_path / "wheel").glob("bulkup-*.whl")
    call("venv/bin/pip", "install", "-q", "--no-deps", "--no-index", wheel)
    # Its dependencies are borrowed from this environment; bulkup itself is not.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    where = call("venv/bin/python", "-c", "import bulkup; print(bulkup.__file__)")
    assert Path(where.strip()).is_relative_to(site)
    assert {p.name for p in (site / "bulkup" / "examples").iterdir()} - {"__pycache__"} == {
        p.name for p in (REPOSITORY / "updaters").glob("*.py")
    }
    shown = call("venv/bin/bulkup", "demo", "shop")
    assert "1,999 written" in shown
    assert "P0001" in call("venv/bin/bulkup", "local", "dump", "shop/shop.db", "--limit", "1")
