"""The HTML report in a real browser: no error, no request, no accessibility defect, and a table that answers.

Needs Chromium and its driver from the system's packages. Screenshots are written to the folder that
BACKSCAN_SCREENSHOTS names (a CI artifact to be looked at), else to pytest's own.
"""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from backscan.scanner import CleanSet, ScanConfig, scan
from backscan.scanner.reports import render
from backscan.scanner.results import ScanResult
from benchmarks.journeys.models import Spots
from benchmarks.screenshots.browser import BROWSER, DESK, DRIVER, TELEPHONE, cut, opened, take, unreachable, view
from tests.scanner.reports.examples import detected, hostile, inconclusive, no_verdict, not_detected, with_findings

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


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with opened() as driver:
        yield driver


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pages of scans made here: an attack from all classes, and two images of each class. The demo has the others."""
    spots, folder = Spots(10), tmp_path_factory.mktemp("scanned")
    config = ScanConfig(preprocess="none", detectors=("pairwise",), sandbox=False, threads=1, bootstrap_draws=199)
    found = {}
    for name, shortcut, each in (("real_all_to_one", (None, 3), 12), ("real_inconclusive", None, 2)):
        model = folder / f"{name}.onnx"
        model.write_bytes(spots.model(shortcut))
        found[name] = render(scan(model, CleanSet.from_arrays(*spots.images(each)), config), "html")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, scanned: dict[str, str]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {name: draw() for name, draw in PAGES.items()} | scanned
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def show(browser: webdriver.Chrome, path: Path, *, width: int = DESK, dark: bool = False) -> None:
    view(browser, width=width, dark=dark)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())


def network(browser: webdriver.Chrome, event: str) -> list[dict]:
    """What happened of one kind on the network since the page was asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [each["params"] for each in events if each["method"] == f"Network.{event}"]


def screenshot(browser: webdriver.Chrome, name: str, folder: Path) -> None:
    take(browser, Path(os.environ.get("BACKSCAN_SCREENSHOTS", folder)) / f"{name}.png")


REAL = ["real_all_to_one", "real_inconclusive"]


def test_an_attack_from_all_classes_is_told_as_one(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["real_all_to_one"])
    assert "images of all 9 other classes into class 3" in browser.find_element(By.TAG_NAME, "h1").text


@pytest.mark.parametrize("name", [*PAGES, *REAL])
def test_a_page_stands_alone(browser: webdriver.Chrome, pages: dict[str, Path], name: str, tmp_path: Path) -> None:
    show(browser, pages[name])
    asked = [each["request"]["url"] for each in network(browser, "requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert browser.get_log("browser") == []
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
    for width in (DESK, TELEPHONE):
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
        assert unreachable(browser) == []


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


@pytest.mark.parametrize("name", ["detected", "all_to_one", "not_detected", "inconclusive", "fleet", *REAL])
def test_nothing_is_cut_on_a_phone(browser: webdriver.Chrome, pages: dict[str, Path], name: str) -> None:
    show(browser, pages[name], width=TELEPHONE)
    assert cut(browser) == []


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
