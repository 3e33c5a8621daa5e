"""Pictures of an HTML page in headless Chromium, which with its driver comes from the system's packages."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from axe_core_python.selenium import Axe  # type: ignore[import-untyped]
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
DESK, TELEPHONE = 1280, 390
"""Widths of the window."""
_HIGHEST = 12_000
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def opened() -> Iterator[webdriver.Chrome]:
    """A browser that asks for nothing by itself and tells what it says and asks for.

    Raises:
        SystemExit: the browser or its driver is not there.
    """
    if BROWSER is None or DRIVER is None:
        lacking = "chromedriver" if BROWSER else "Chromium"
        raise SystemExit(f"expected Chromium and its driver on the path, found no {lacking}: install both")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def view(browser: webdriver.Chrome, *, width: int, dark: bool = False) -> None:
    """Give the window a width and a scheme of colours."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def take(browser: webdriver.Chrome, path: Path) -> None:
    """Write a picture of the whole page that is shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metrics = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": metrics["width"], "height": min(metrics["height"], _HIGHEST), "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(taken["data"]))


def print_to(browser: webdriver.Chrome, path: Path) -> None:
    """Write the page that is shown as a PDF, with everything open as it prints."""
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    path.write_bytes(base64.b64decode(printed["data"]))


def cut(browser: webdriver.Chrome) -> list[str]:
    """What of the page that is shown does not fit: its own width, wide tables, cells of more than four lines."""
    found: list[str] = browser.execute_script(
        """
        const told = (e) => e.tagName + " " + e.className + ": " + e.textContent.trim().slice(0, 60);
        const wide = (e) => e.scrollWidth > e.clientWidth + 1;
        const tall = (e) => e.clientHeight > 4.4 * parseFloat(getComputedStyle(e).lineHeight);
        for (const each of document.querySelectorAll("details")) each.open = true;
        const root = document.documentElement;
        return [
            ...(root.scrollWidth > window.innerWidth ? ["the page scrolls sideways"] : []),
            ...[...document.querySelectorAll(".scroll")].filter(wide).map(told),
            ...[...document.querySelectorAll(".cards td")].filter(tall).map(told),
        ];
        """
    )
    return found


def unreachable(browser: webdriver.Chrome) -> list[str]:
    """What axe-core finds on the page that is shown: contrast, names, roles, headings, landmarks, keyboard."""
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    found = Axe().run(browser)
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]
