"""Scan five times, write the reports, and picture each at the widths of a desk and of a telephone.

    python -m benchmarks.screenshots --out FOLDER [--only NAME ...] [--again] [--readme docs/report.png]

Needs Chromium and its driver. `--again` pictures the reports that are in the folder; `--readme` is the picture of the
README. Ends with 1 where axe-core finds something, or something is cut: a page that scrolls sideways, a wide table, a
cell of more than four lines.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from selenium import webdriver

from backscan.scanner import render
from backscan.scanner.store.reports import parse
from benchmarks import command
from benchmarks.screenshots.browser import DESK, TELEPHONE, cut, opened, print_to, take, unreachable, view
from benchmarks.screenshots.scans import SCANS

_README_WIDTH = 960


def scanned(name: str, folder: Path) -> None:
    """Scan, and keep the report."""
    result = SCANS[name].scan(folder)
    print(f"{name}: {result.verdict.value}, {sum(result.timings.values()):.0f} s", flush=True)
    (folder / f"{name}.json").write_text(render(result, "json"), encoding="utf-8")


def pictured(browser: webdriver.Chrome, name: str, folder: Path) -> list[str]:
    """Draw the page of a report, picture and print it; what is wrong with it."""
    page = folder / f"{name}.html"
    page.write_text(render(parse((folder / f"{name}.json").read_text(encoding="utf-8")), "html"), encoding="utf-8")
    faults = []
    for width in (DESK, TELEPHONE):
        view(browser, width=width)
        browser.get(page.resolve().as_uri())
        take(browser, folder / f"{name}-{width}.png")
        faults += [f"{name} at {width} pixels: {each}" for each in cut(browser)]
    faults += [f"{name}: {each}" for each in unreachable(browser)]
    print_to(browser, folder / f"{name}.pdf")
    return faults


def readme_picture(browser: webdriver.Chrome, page: Path, target: Path) -> None:
    """The top of the first model's report in a wide window: the verdict and the pattern, up to what is to be done."""
    view(browser, width=DESK)
    browser.get(page.resolve().as_uri())
    whole = page.with_suffix(".whole.png")
    take(browser, whole)
    place = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    top, end = (int(browser.execute_script(place, each)) for each in ("article.scan", "article.scan .columns"))
    with Image.open(whole) as image:
        seen = image.convert("RGB").crop((0, top, DESK, end))
    size = (_README_WIDTH, _README_WIDTH * (end - top) // DESK)
    seen.resize(size, Image.Resampling.LANCZOS).save(target, optimize=True)
    whole.unlink()


def main() -> int:
    """Scan and picture; 1 if a page has a fault."""
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for models, reports and pictures")
    parser.add_argument("--only", nargs="+", choices=SCANS, default=list(SCANS), help="some of the reports")
    parser.add_argument("--again", action="store_true", help="scan nothing: take the reports in the folder")
    parser.add_argument("--readme", type=Path, help="where the picture of the README goes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        if not arguments.again:
            scanned(name, arguments.out)
    with opened() as browser:
        faults = [fault for name in arguments.only for fault in pictured(browser, name, arguments.out)]
        if arguments.readme:
            readme_picture(browser, arguments.out / "one_to_one.html", arguments.readme)
    print("\n".join(faults) or "nothing is cut, nothing out of reach")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
