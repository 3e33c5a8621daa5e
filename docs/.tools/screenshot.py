"""A picture of the first model of an HTML report, for the README.

make demo
python docs/.tools/screenshot.py demo.html docs/report.png    # needs Chromium and its driver
"""

import base64
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WIDTH, HEIGHT, SHOWN = 1280, 840, 960


def picture(page: Path) -> Image.Image:
    """What a reader with a wide window sees first of the first model."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        metrics = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(page.resolve().as_uri())
        driver.execute_script("document.querySelector('article.scan').scrollIntoView()")
        taken = driver.execute_cdp_cmd("Page.captureScreenshot", {})
    finally:
        driver.quit()
    image = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    return image.resize((SHOWN, SHOWN * HEIGHT // WIDTH), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    picture(source).save(target, optimize=True)
