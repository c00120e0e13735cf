"""A browser for the tests of this folder."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tools.screenshots import find_chromium

DRAWN = "() => document.documentElement.dataset.ready && ![...visible].some(key => stale.has(key))"


class Tab:
    """An opened report and what the browser complained about."""

    def __init__(self, page):
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url[:100]))

    def _on_console(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, address: str) -> None:
        """Open a page and wait until what is in view is drawn."""
        self.page.goto(address)
        self.wait_until_drawn()

    def wait_until_drawn(self) -> None:
        """Wait until no chart in view is stale."""
        self.page.wait_for_timeout(150)  # what is in view is known after a frame
        self.page.wait_for_function(DRAWN, timeout=60_000)

    def show(self, selector: str) -> None:
        """Scroll something into view and wait until it is drawn."""
        self.page.locator(selector).scroll_into_view_if_needed()
        self.wait_until_drawn()

    def drawn(self, chart: str, column: str, run: str | None = None) -> list[float | None]:
        """Return the values that a chart shows of a metric, as the plotting library holds them."""
        found = json.loads(
            self.page.evaluate(
                "([id, column, run]) => JSON.stringify(document.getElementById(id).data"
                ".filter(t => t.meta && t.meta.column === column && (!run || t.meta.run === run))"
                ".map(t => Array.from(t.y)))",
                [chart, column, run],
            )
        )
        (values,) = found
        return values


@pytest.fixture(scope="session")
def browser():
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine; make setup installs it where it may")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser):
    """Return a function that opens a report: a file or an address, at a width and color scheme."""
    tabs = []

    def open_tab(target: Path | str, *, width=1280, scheme="light") -> Tab:
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        tab = Tab(page)
        tabs.append(tab)
        tab.open(target.resolve().as_uri() if isinstance(target, Path) else target)
        return tab

    yield open_tab
    for tab in tabs:
        tab.page.close()
