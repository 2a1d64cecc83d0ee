"""The live pages in a browser: a run is watched and steered from its page."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser import TIMEOUT_MS
from tests.cli.shell import Shell, ended, entity, put
from tests.cli.test_serve import served
from tests.conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
