"""Photograph the report of a run: ``python tools/screenshots.py RUN [OTHER ...] --output docs/images``.

Writes ``report_<name>.png`` for every entry of ``SHOTS``. Needs a Chromium (or CHROMIUM=/path/to/it).
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from pi0.ript.report.page.render import write_report

# Name, width, height, scale, color scheme, how far down the page (a selector).
SHOTS: tuple[tuple[str, int, int, int, Literal["light", "dark"], str], ...] = (
    ("desktop", 1280, 1500, 1, "light", "#headline"),
    ("dark", 1280, 1100, 1, "dark", "#initial-states"),
    ("videos", 1280, 900, 1, "light", "#videos"),
    ("phone", 390, 844, 2, "light", "#headline"),
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def photograph(browser: Browser, page_file: Path, output: Path) -> list[Path]:
    """Write all images and return their paths."""
    paths: list[Path] = []
    for name, width, height, scale, scheme, section in SHOTS:
        page = browser.new_page(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme=scheme,
        )
        page.goto(page_file.resolve().as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        page.evaluate(
            "section => { document.documentElement.style.scrollBehavior = 'auto';"
            " const top = document.querySelector(section).getBoundingClientRect().top;"
            " window.scrollTo(0, section === '#headline' ? 0 : top - 80); }",
            section,
        )
        page.wait_for_timeout(500)  # what is in view is known after a frame
        page.wait_for_function("() => ![...visible].some(key => stale.has(key))")
        path = output / f"report_{name}.png"
        page.screenshot(path=path)
        page.close()
        image = Image.open(path).convert("RGB")
        image.quantize(256, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
        paths.append(path)
    return paths


def main() -> None:
    """Write the report into a temporary folder and photograph it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("no Chromium found; run: apt-get install chromium, or set CHROMIUM")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = write_report(arguments.runs, Path(folder) / "report.html")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in photograph(browser, page_file, arguments.output):
            print(path, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
