"""The HTML report in a real browser: no error, no request, no accessibility defect, and a table that answers.

Needs Chromium and its driver from the system's packages. Screenshots are written to the folder that
BACKSCAN_SCREENSHOTS names (a CI artifact to be looked at), else to pytest's own.
"""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from backscan.scanner.reports import render
from backscan.scanner.results import ScanResult
from tests.scanner.reports.examples import detected, hostile, inconclusive, no_verdict, not_detected, with_findings

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no browser: install chromium and chromium-driver from the system's packages"
)


def from_everywhere() -> ScanResult:
    """Detected, and all other classes go to the target too."""
    found = detected()
    assert found.verification is not None
    collateral = tuple(replace(each, rate=0.9) for each in found.verification.collateral)
    return replace(found, verification=replace(found.verification, collateral=collateral))


PAGES = {
    "all_to_one": lambda: render(from_everywhere(), "html"),
    "not_detected": lambda: render(not_detected(), "html"),
    "inconclusive": lambda: render(inconclusive(), "html"),
    "detected": lambda: render(detected(), "html"),
    "detected_43": lambda: render(detected(43), "html"),
    "hostile": lambda: render(hostile(), "html"),
    "several": lambda: render([not_detected(), with_findings(), no_verdict()], "html"),
    "fleet": lambda: render(
        [not_detected(), hostile(), inconclusive(), no_verdict(), detected()], "fleet", page="several.html"
    ),
}
FLAGS = (
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


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in PAGES}
    for name, path in paths.items():
        path.write_text(PAGES[name](), encoding="utf-8")
    return paths


def view(browser: webdriver.Chrome, *, width: int, dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def show(browser: webdriver.Chrome, path: Path, *, width: int = 1280, dark: bool = False) -> None:
    view(browser, width=width, dark=dark)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())


def network(browser: webdriver.Chrome, event: str) -> list[dict]:
    """What happened of one kind on the network since the page was asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [each["params"] for each in events if each["method"] == f"Network.{event}"]


def screenshot(browser: webdriver.Chrome, name: str, folder: Path) -> None:
    kept = Path(os.environ.get("BACKSCAN_SCREENSHOTS", folder))
    kept.mkdir(parents=True, exist_ok=True)
    metrics = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": metrics["width"], "height": min(metrics["height"], 12_000), "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    (kept / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_alone(browser: webdriver.Chrome, pages: dict[str, Path], name: str, tmp_path: Path) -> None:
    show(browser, pages[name])
    asked = [each["request"]["url"] for each in network(browser, "requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert browser.get_log("browser") == []
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
    for width in (1280, 390):
        for dark in (False, True):
            view(browser, width=width, dark=dark)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, "the page scrolls sideways"
            screenshot(browser, f"{name}-{width}-{'dark' if dark else 'light'}", tmp_path)


@pytest.mark.parametrize("name", ["detected", "several", "fleet"])
def test_a_page_is_accessible(browser: webdriver.Chrome, pages: dict[str, Path], name: str) -> None:
    """axe-core's rules: contrast, names, roles, headings, landmarks, keyboard."""
    show(browser, pages[name])
    for dark in (False, True):
        view(browser, width=1280, dark=dark)
        browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
        found = Axe().run(browser)
        told = [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]
        assert told == []


def details(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.CSS_SELECTOR, ".pair-details").text


def cell(browser: webdriver.Chrome, pair: str) -> object:
    return browser.find_element(By.CSS_SELECTOR, f"td[data-pair='{pair}']")


def test_the_table_answers_to_the_mouse(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["detected"])
    assert details(browser).startswith("Most extreme pair: automobile (1) → truck (9), size 0.256 (L2)")
    ActionChains(browser).move_to_element(cell(browser, "3-5")).perform()
    assert details(browser).startswith("cat (3) → dog (5): size ")
    assert "rate 81%" in details(browser)
    shown = browser.find_elements(By.CSS_SELECTOR, "g.shown")
    assert [each.get_attribute("id") for each in shown] == ["m0-d0-curves-curve-3-5"]


def test_a_click_keeps_the_pair(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["detected"])
    cell(browser, "1-9").click()
    ActionChains(browser).move_to_element(browser.find_element(By.TAG_NAME, "h1")).perform()
    assert details(browser).startswith("automobile (1) → truck (9): size 0.256 (L2)")
    cell(browser, "1-9").click()
    ActionChains(browser).move_to_element(browser.find_element(By.TAG_NAME, "h1")).perform()
    assert details(browser).startswith("Most extreme pair")


def test_the_table_answers_to_the_keyboard(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["detected"])
    entered = browser.find_elements(By.CSS_SELECTOR, "table[role=grid] [tabindex='0']")
    assert [each.get_attribute("data-pair") for each in entered] == ["1-9"]
    entered[0].send_keys(Keys.ARROW_DOWN)
    assert details(browser).startswith("bird (2) → truck (9)")
    active = browser.switch_to.active_element
    active.send_keys(Keys.HOME)
    assert details(browser).startswith("bird (2) → airplane (0)")
    browser.switch_to.active_element.send_keys(Keys.ARROW_UP)
    assert details(browser).startswith("automobile (1) → airplane (0)")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert details(browser) == "source and target are the same class"
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    assert browser.find_element(By.CSS_SELECTOR, "td.pinned").get_attribute("data-pair") == "1-2"


@pytest.mark.parametrize("name", ["detected", "all_to_one", "not_detected", "inconclusive", "fleet"])
def test_nothing_is_cut_on_a_phone(browser: webdriver.Chrome, pages: dict[str, Path], name: str) -> None:
    show(browser, pages[name], width=390)
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    cut = "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    assert browser.execute_script(cut) == 0
    tall = (
        "return [...document.querySelectorAll('.cards td')].filter((e) => e.clientHeight > 4.4 * parseFloat("
        "getComputedStyle(e).lineHeight)).map((e) => e.textContent)"
    )
    assert browser.execute_script(tall) == []


def verdicts(browser: webdriver.Chrome) -> list[str]:
    """Verdicts of the rows that are shown, in their order."""
    rows = browser.find_elements(By.CSS_SELECTOR, "#models tbody tr")
    return [row.get_attribute("data-verdict") or "" for row in rows if row.is_displayed()]


WORST_FIRST = ["backdoor_detected", "backdoor_detected", "no_verdict", "inconclusive", "not_detected"]


def test_models_are_sorted_by_a_heading(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["fleet"])
    assert verdicts(browser) == WORST_FIRST
    head = browser.find_element(By.CSS_SELECTOR, "th[data-order='verdict']")
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert verdicts(browser) == WORST_FIRST[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    browser.find_element(By.CSS_SELECTOR, "th[data-order='p'] button").click()
    assert head.get_attribute("aria-sort") is None
    shown = browser.find_elements(By.CSS_SELECTOR, "#models tbody tr")
    given = [row.get_attribute("data-p") or "" for row in shown]
    numbers = [float(each) for each in given if each]
    assert numbers == sorted(numbers)
    assert given[-1] == "", "what has no p stands last"


def test_models_are_filtered_by_verdict_and_words(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["fleet"], width=390)
    browser.find_element(By.CSS_SELECTOR, "input[value='backdoor_detected']").click()
    assert verdicts(browser) == WORST_FIRST[2:]
    assert browser.find_element(By.ID, "shown").text == "3 of 5 shown"
    browser.find_element(By.ID, "words").send_keys("NO backdoor")
    assert verdicts(browser) == ["not_detected"]


def test_the_most_extreme_pair_is_in_sight(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["detected_43"], width=390)
    where = "const c = document.querySelector('td.found').getBoundingClientRect(); return [c.left, c.right]"
    left, right = browser.execute_script(where)
    assert left >= 0
    assert right <= 390


def test_names_run_no_script(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["hostile"])
    browser.find_element(By.CSS_SELECTOR, "td[data-pair='0-1']").click()
    assert details(browser).startswith('<script>alert("class")</script> (0)')
    browser.execute_script("return document.title")  # raises if an alert is open


def test_the_policy_of_the_page_stops_what_is_not_ours(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Were an escape ever missing, the page's content security policy would still hold."""
    injected = (
        "<script>document.title = 'owned'</script><img src='https://evil.example/x.png' onerror='document.title=1'>"
    )
    path = tmp_path / "injected.html"
    path.write_text(PAGES["detected"]().replace("<main>", f"<main>{injected}"), encoding="utf-8")
    show(browser, path)
    assert browser.title.startswith("Backdoor detected")
    assert [each.get("blockedReason") for each in network(browser, "loadingFailed")] == ["csp"]
    assert len(browser.get_log("browser")) >= 2  # what was stopped is told


def test_printing_opens_everything(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["detected"], dark=True)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.find_elements(By.CSS_SELECTOR, "details:not([open])") == []
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
