"""A browser for tests: Playwright with the Chromium of this machine, and axe-core.

Each test that asks for a browser has its own, since Playwright leaves an event loop running in the
thread, in which no other test could run one. It takes a second, so one test looks at many pages.
Where there is no Chromium, these tests are skipped; with BULKUP_REQUIRE_BROWSER=1 (as in `.ci/run`)
they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 120_000
"""What is waited for takes a second; a hang must fail, and a busy machine must not."""
GRAVE = ("serious", "critical")


def chromium() -> str:
    """Its path. If there is none, skips the test, or fails where BULKUP_REQUIRE_BROWSER is set."""
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    reason = f"none of {', '.join(CHROMIUM)} is on the PATH (Debian: apt-get install chromium)"
    if os.environ.get("BULKUP_REQUIRE_BROWSER"):
        pytest.fail(f"BULKUP_REQUIRE_BROWSER is set, but {reason}")
    pytest.skip(f"no browser is here: {reason}")


@pytest.fixture
def browser() -> Iterator[Browser]:
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox needs rights that root and most containers do not have.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser_context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context() as context:
        context.set_default_timeout(TIMEOUT_MS)
        yield context


@pytest.fixture
def browser_page(browser_context: BrowserContext) -> Page:
    """An empty page. Whatever goes wrong in it fails the test: see `troubles`."""
    return browser_context.new_page()


def troubles(page: Page, *, accepts: str | None = None) -> list[str]:
    """A list that from now on gets every dialog, error and message of the console: a page that
    shows untrusted strings has none of them. A dialog that begins with `accepts` is accepted."""
    found: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        if accepts is not None and dialog.message.startswith(accepts):
            dialog.accept()
        else:
            found.append(f"dialog: {dialog.message}")
            dialog.dismiss()

    page.on("dialog", on_dialog)
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("console", lambda message: found.append(f"{message.type}: {message.text}"))
    return found


def check_accessible(page: Page, name: str = "") -> None:
    """In `page`, axe-core finds nothing serious or critical, in light and in dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = [fault for fault in _faults(page) if fault["impact"] in GRAVE]
        told = [
            f"{fault['id']} ({fault['help']}): {node['html']}"
            for fault in found
            for node in fault["nodes"][:3]
        ]
        assert not told, f"{name} {scheme}: " + "\n".join(told)


def _faults(page: Page) -> list[dict[str, object]]:
    import axe_playwright_python

    if not page.evaluate("() => 'axe' in window"):
        source = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
        # Evaluated by the debugger's protocol, which a Content-Security-Policy does not concern.
        page.evaluate(source)
    options = {"resultTypes": ["violations"]}
    return list(page.evaluate("options => axe.run(document, options)", options)["violations"])
