"""A run is steered by forms of its page, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.steering import UNSTEERED, SteerState, Tuning
from bulkup.runs.target import TargetOptions
from bulkup.state.steering import read_steering
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.undoing import Bench
from tests.web.conftest import ORIGIN, Site, site_of


@bulkup.updater(kind="Thing")
def touch(entity: Entity) -> Entity:
    entity["touched"] = True
    return entity


@pytest.fixture
def bench(embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    fill(embedded, "Thing", 30)
    return Bench(embedded, tmp_path / ".bulkup")


def steered(
    site: Site, run_id: str, verb: str, *, origin: str = ORIGIN, json: bool = True, **fields: str
) -> httpx.Response:
    form = {"form_token": site.keys.form_token, **fields}
    headers = {"origin": origin, **({"accept": "application/json"} if json else {})}
    return site.client.post(f"{site.base}/runs/{run_id}/{verb}", data=form, headers=headers)


def test_forms_steer_a_run_that_nobody_works_on(bench: Bench) -> None:
    stopped = bench.run(touch, limit=10, batch_size=5)
    folder = bench.folder(stopped)
    with site_of(bench.state_dir) as site:
        site.enter()
        paused = steered(site, stopped.run_id, "pause")
        assert "is paused" in paused.json()["message"]
        assert read_steering(folder).is_paused
        shown = site.page(f"/runs/{stopped.run_id}").text
        assert "Paused by" in shown
        assert 'id="continue"' in shown

        tuned = steered(site, stopped.run_id, "tune", max_rate="200", in_flight="2")
        assert tuned.status_code == 200
        assert read_steering(folder).tuning == Tuning("200", 2)

        page = steered(site, stopped.run_id, "continue", json=False)
        assert "not paused any more" in page.text
        assert f'href="{site.base}/runs/{stopped.run_id}"' in page.text
        assert read_steering(folder).state is SteerState.WORKING


def test_a_run_of_elsewhere_is_steered_through_its_record(bench: Bench, tmp_path: Path) -> None:
    stopped = bench.run(touch, limit=10, batch_size=5)
    with site_of(tmp_path / "other", TargetOptions(bench.server.project)) as site:
        site.enter()
        path = f"/runs/{stopped.run_id}"
        assert 'id="pause"' in site.page(path).text
        assert "is paused" in steered(site, stopped.run_id, "pause").json()["message"]
        shown = site.page(path).text
        assert "Paused by" in shown
        assert 'id="continue"' in shown


def test_nothing_but_a_form_of_the_page_changes_anything(bench: Bench) -> None:
    stopped = bench.run(touch, limit=10, batch_size=5)
    with site_of(bench.state_dir) as site:
        site.enter()
        verbs = ("pause", "continue", "cancel", "tune")
        for verb in verbs:
            path = f"{site.base}/runs/{stopped.run_id}/{verb}"
            token = {"form_token": site.keys.form_token}
            assert site.client.get(path, params=token).status_code == 405
            assert site.client.post(path, params=token).status_code == 403
            assert steered(site, stopped.run_id, verb, origin="http://evil").status_code == 403
            assert steered(site, stopped.run_id, verb, form_token="x").status_code == 403
        site.client.cookies.clear()
        for verb in verbs:
            assert steered(site, stopped.run_id, verb).status_code == 403
    assert read_steering(bench.folder(stopped)) == UNSTEERED


def test_what_cannot_be_done_is_said(bench: Bench) -> None:
    stopped, finished = bench.run(touch, limit=10, batch_size=5), None
    with site_of(bench.state_dir) as site:
        site.enter()
        for fields, message in (
            ({}, "fill in"),
            ({"batch_size": "many"}, "whole number"),
            ({"batch_size": "9999"}, "at most"),
            ({"max_rate": "<script>"}, "max_rate is '<script>'"),
        ):
            refused = steered(site, stopped.run_id, "tune", **fields)
            assert (refused.status_code, message in refused.json()["message"]) == (409, True)
            page = steered(site, stopped.run_id, "tune", json=False, **fields).text
            assert "<script>'" not in page
        assert steered(site, stopped.run_id, "delete").status_code == 404
        assert steered(site, "20260101-000000-abcdef", "pause").status_code == 404
        assert steered(site, "..%2f..", "pause").status_code in (403, 404)
        finished = bench.run(touch)
        over = steered(site, finished.run_id, "pause")
        assert over.status_code in (404, 409)
        assert 'id="pause"' not in site.page(f"/runs/{finished.run_id}").text
    assert read_steering(bench.folder(stopped)) == UNSTEERED
