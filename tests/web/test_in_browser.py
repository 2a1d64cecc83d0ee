"""The live pages in a browser: a run is watched and steered from its page."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser import TIMEOUT_MS, check_accessible, troubles
from tests.cli.shell import Shell, ended, entity, put
from tests.cli.test_serve import served
from tests.conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect.set_options(timeout=TIMEOUT_MS)

COUNT = 600
ATTACK = '<script>alert(1)</script>\x1b[2J"><img src=x onerror=alert(1)>'
UPDATER = f"""
    import bulkup

    ATTACK = {ATTACK!r}

    @bulkup.updater(kind="Item", max_failures=-1)
    def hostile(entity):
        '''<script>alert(1)</script>'''
        if entity["n"] % 5 == 0:
            raise ValueError(ATTACK + entity["name"])
        entity["n"] = -1
        return entity
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("hostile.py", UPDATER)
    client = embedded.client()
    keys = [(ATTACK,), *((number,) for number in range(1, COUNT))]
    put(client, (entity(client, "Item", *key, n=n, name=ATTACK) for n, key in enumerate(keys)))
    return shell


@contextmanager
def serving(shell: Shell, *options: str) -> Iterator[str]:
    """The link of a server that ends with exit code 0."""
    process = shell.begin("serve", "--json", *options)
    try:
        yield served(process)
        process.send_signal(signal.SIGTERM)
        assert ended(process).code == 0
    finally:
        process.kill()
        process.communicate()


def handled(page: Page) -> int:
    """What the figure on the page says."""
    figure = page.locator("[data-live=figures] dt", has_text=re.compile("^Handled$")).locator(
        "xpath=following-sibling::dd"
    )
    return int(re.sub(r"\D", "", (figure.inner_text().split() or ["0"])[0]) or 0)


def test_a_run_is_watched_paused_tuned_continued_and_cancelled(
    shell: Shell, browser_page: Page
) -> None:
    page = browser_page
    found = troubles(page, accepts="Cancel this run?")
    process = shell.begin("serve", "--all", "--json")
    page.goto(served(process))
    page.wait_for_url("**/")
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("main")).to_contain_text("There are no runs")

    run = shell.begin("run", "hostile.py", "--max-rate", "40", "--batch-size", "10", "--yes")
    expect(page.locator("tbody a")).to_be_visible()  # it appears by itself
    check_accessible(page, "runs")
    page.locator("tbody a").click()
    moved = [0]
    while len(moved) < 3:
        page.wait_for_function(
            "before => document.querySelector('[data-live=figures]').innerText != before",
            arg=page.locator("[data-live=figures]").inner_text(),
        )
        if handled(page) > moved[-1]:
            moved.append(handled(page))

    message = page.locator("#message")
    page.locator("#pause").click()
    expect(message).to_contain_text("is paused")
    expect(page.locator("[data-live=now]")).to_contain_text("paused by")
    expect(page.locator("#continue")).to_be_visible()
    check_accessible(page, "a paused run")
    paused_at = handled(page)

    page.locator("#max_rate").fill("50")
    page.locator("#batch_size").fill("not a number")
    page.locator("#tune").click()
    expect(message).to_contain_text("must be a whole number")
    page.locator("#batch_size").fill("5")
    page.locator("#tune").click()
    expect(message).to_contain_text("max rate 50/s, batch size 5")
    expect(page.locator("[data-live=steering]")).to_contain_text("Tuned to max rate 50/s")

    page.locator("#continue").click()
    expect(message).to_contain_text("works")
    page.wait_for_function(
        "before => document.querySelector('[data-live=figures]').innerText != before",
        arg=page.locator("[data-live=figures]").inner_text(),
    )
    assert handled(page) >= paused_at

    page.locator("#cancel").click()
    expect(message).to_contain_text("is cancelled")
    assert ended(run).code == 12
    expect(page.locator("[data-live=top]")).to_contain_text("topped")

    page.locator("#q").fill("valueerror")
    page.locator("#q").press("Enter")
    expect(page.locator(".hits li").first).to_contain_text("<script>alert(1)</script>\\x1b[2J")
    check_accessible(page, "a cancelled run and a search")
    page.get_by_role("link", name="Migrations").click()
    expect(page.locator("h1")).to_have_text("Migrations")
    check_accessible(page, "migrations")

    process.send_signal(signal.SIGINT)
    expect(page.locator("#link")).to_have_text("bulkup serve has ended")
    assert ended(process).code == 0
    refused = "Failed to load resource: the server responded with a status of 409 (Conflict)"
    assert found == [f"error: {refused}"]  # the batch size that was not a number


def test_pages_work_without_javascript(shell: Shell, browser: Browser) -> None:
    run = shell.bulkup("run", "hostile.py", "--yes")
    assert run.code == 3, run
    with serving(shell) as link, browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(link)
        page.locator("tbody a").click()
        expect(page.locator("#section-details, [data-live=details]").first).to_be_visible()
        page.locator("#q").fill("120)")
        page.get_by_role("button", name="Find").click()
        expect(page.locator(".hits li")).to_have_count(1)
