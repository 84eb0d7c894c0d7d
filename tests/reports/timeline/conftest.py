"""A browser for the page of a timeline: one for all tests, without a network and with an empty profile."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from emu.reports.log import Record
from emu.reports.timeline.data import timeline
from emu.reports.timeline.page import page
from tests.reports.race import recorded

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


@attrs.frozen
class Browser:
    """A browser that shows a page."""

    driver: Chrome

    def open(self, path: Path, width: int = 1600, theme: str = "light") -> None:
        """Open a page in a window of a width, for a reader who prefers a theme."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get(path.as_uri())
        self.drawn()

    def drawn(self) -> None:
        """Wait until the page has been drawn."""
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        (one,) = self.all(selector)
        return one.text

    def keys(self, *keys: str, into: str = "#chart") -> None:
        (one,) = self.all(into)
        one.send_keys(*keys)
        self.drawn()

    def script(self, code: str) -> Any:
        return self.driver.execute_script(code)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since the last call."""
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]  # it has no types
        return entries

    def requests(self) -> list[str]:
        """Return what the page has requested since the last call; the page itself is a file."""
        messages = (json.loads(one["message"])["message"] for one in self.log("performance"))
        sent = (one["params"] for one in messages if one["method"] == "Network.requestWillBeSent")
        urls = [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]
        return [url for url in urls if not url.startswith(("file:", "data:"))]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start the browser that Debian installs; the test is skipped where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with a chromedriver here")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    yield Browser(chrome)
    chrome.quit()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Show a log in the browser; afterwards the page has said nothing on the console, and asked for nothing."""

    def shown(records: list[Record], **view: Any) -> Browser:
        path = tmp_path / "timeline.html"
        path.write_bytes(page(timeline(recorded(records))))
        browser.open(path, **view)
        return browser

    yield shown
    assert browser.log("browser") == []
    assert browser.requests() == []
