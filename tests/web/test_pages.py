"""What the pages show, and that looking at them writes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.vitals import Phase, Sample
from bulkup.runs.target import TargetOptions
from bulkup.web.render import render
from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.undoing import Bench
from tests.web.conftest import Site, site_of

HOSTILE = "<script>alert(1)</script>\x1b[2J"


@bulkup.updater(kind="Thing", max_failures=-1)
def touch(entity: Entity) -> Entity:
    """Touch every thing."""
    if entity["i"] % 10 == 0:
        raise ValueError(f"{HOSTILE} {entity['i']}")
    entity["touched"] = True
    return entity


@pytest.fixture
def bench(embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    fill(embedded, "Thing", 30)
    return Bench(embedded, tmp_path / ".bulkup")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the scratch files of SQLite."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): p.read_bytes() for p in paths if not p.name.endswith(("-shm", "-wal"))}


def test_pages_show_a_run_and_its_failures_inert_and_write_nothing(bench: Bench) -> None:
    report = bench.run(touch)
    before = contents(bench.state_dir)
    with site_of(bench.state_dir) as site:
        site.enter()
        runs = site.page("/").text
        assert f'href="{site.base}/runs/{report.run_id}"' in runs
        assert ">touch<" in runs
        assert "finished" in runs
        run = site.page(f"/runs/{report.run_id}").text
        assert "3 entities" in run
        found = site.page(f"/runs/{report.run_id}?q=VALUEERROR+20").text
        assert found.count('<span class="kind">failure</span>') == 1
        log = site.page(f"/runs/{report.run_id}?kind=failure").text
        assert log.count('<span class="kind">failure</span>') == 3
        for page in (runs, run, found, log):
            assert "<script>alert" not in page
            assert "\x1b" not in page
            assert page.count("<script") == 1
    assert contents(bench.state_dir) == before


def test_a_search_finds_runs_by_updater_id_and_state(bench: Bench) -> None:
    report = bench.run(touch)
    with site_of(bench.state_dir) as site:
        site.enter()
        for words in ("TOUCH", report.run_id, "finished touch"):
            assert report.run_id in site.page("/", q=words).text
        for words in ("other", "touch running", "x" * 5000):
            assert report.run_id not in site.page("/", q=words).text
        assert "<script" not in site.page("/", q=HOSTILE).text.replace("<script type", "")


def test_the_runs_of_a_group_lead_to_each_other(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    for namespace in ("a", "b"):
        seed(embedded, 2, namespace=namespace)
    for words in (("--namespaces", "[ab]"), ("--namespace", "a", "--new")):
        assert shell.bulkup("run", "bump.py", *words).code == 0
    with site_of(shell.state_dir) as site:
        site.enter()
        (group,) = set(re.findall(r'href="[^"]*/\?q=([^"]+)"', site.page("/").text))
        shown = site.page("/", q=group).text
        assert f"all of group {group}" in shown
        assert re.findall(r"<code>(.*)</code>", shown) == [f"{group}@b", f"{group}@a"]
        assert "2 runs, the latest first" in shown


def test_a_run_of_elsewhere_is_shown_from_its_record(bench: Bench, tmp_path: Path) -> None:
    stopped = bench.run(touch, limit=10, batch_size=5)
    target = TargetOptions(bench.server.project)
    with site_of(tmp_path / "other", target) as site:
        site.enter()
        assert stopped.run_id in site.page("/").text
        shown = site.page(f"/runs/{stopped.run_id}").text
        assert "record in Datastore" in shown
    with site_of(tmp_path / "other") as site:
        site.enter()
        assert site.page(f"/runs/{stopped.run_id}", status=404)
        assert "--all" in site.page("/migrations").text


def test_migrations_are_shown_with_their_state(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "updaters"
    folder.mkdir()
    (folder / "0001_first.py").write_text(
        'import bulkup\n\n@bulkup.updater(kind="Thing")\ndef first(thing):\n    return thing\n'
    )
    with site_of(bench.state_dir, TargetOptions(bench.server.project)) as site:
        site.enter()
        shown = site.page("/migrations").text
        assert "0001_first" in shown
        assert "pending" in shown
        assert "1 migration to apply" in shown


def test_a_damaged_run_does_not_hide_the_others(bench: Bench) -> None:
    good, bad = bench.run(touch), bench.run(touch)
    (bench.folder(bad) / "checkpoint.sqlite").write_bytes(b"damaged")
    with site_of(bench.state_dir) as site:
        site.enter()
        runs = site.page("/").text
        assert good.run_id in runs
        assert bad.run_id in runs
        assert "damaged" in runs
        assert "damaged" in site.page(f"/runs/{bad.run_id}").text
        assert site.page(f"/runs/{bad.run_id}?q=x").status_code == 200


def test_no_runs_say_how_to_start_one(site: Site) -> None:
    site.enter()
    assert "bulkup run" in site.page("/").text


def test_a_paused_run_has_no_space_before_a_semicolon() -> None:
    last = Sample(0, 1, Phase.PAUSED, "paused by ann@host", limit_per_s=300)
    html = render("now.html", last=last, handled=9, total=100, left_s=None)
    assert "<strong>paused by ann@host</strong>; limit 300/s" in html
