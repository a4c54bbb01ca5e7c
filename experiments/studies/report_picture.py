"""Pictures of a report, as a browser shows it: what report.png was made with.

    python -m experiments.studies.report_picture --report=studies/brain/report.html \
        --output=docs/pictures/report.png

It needs a Chromium (--browser=PATH, else the one that is found) and playwright.
"""

import os
import pathlib
import shutil
from collections.abc import Sequence

from absl import flags

from experiments.harness import command
from experiments.harness.text import UsageError

BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
# Without a graphics card: software draws what wants one.
FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    texts = {
        "report": "the file",
        "output": "the picture, PNG",
        "browser": "path of a Chromium",
        "scheme": "light or dark",
        "trial": "the trial that is marked",
    }
    for name, meaning in texts.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_integer("width", 1280, "of the window", flag_values=values)
    flags.DEFINE_integer("height", 3100, "of the picture", flag_values=values)


def browser() -> str | None:
    """The path of a Chromium that is there; `CHROMIUM` in the environment is first."""
    there = filter(None, map(shutil.which, BROWSERS))
    return os.environ.get("CHROMIUM") or next(there, None)


def main(argv: Sequence[str]) -> int:
    """Opens the report, draws all of it, and keeps what is seen."""
    given = command.parse(argv, define, __doc__)
    found = given.browser or browser()
    if not given.report or not given.output:
        raise UsageError("--report and --output: expected two files")
    if not found:
        raise UsageError(f"--browser: none of {', '.join(BROWSERS)} is there")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=FLAGS)
        size = {"width": given.width, "height": 900}
        page = chromium.new_page(viewport=size, color_scheme=given.scheme or "light")  # type: ignore[arg-type]
        page.goto(pathlib.Path(given.report).resolve().as_uri())
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        for place in range(0, given.height + 900, 400):  # charts are drawn when seen
            page.evaluate(f"scrollTo(0, {place})")
            page.wait_for_timeout(300)
        if given.trial is not None:
            page.locator(f"tr[data-trial='{given.trial}']").focus()
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)
        clip = {"x": 0, "y": 0, "width": given.width, "height": given.height}
        page.screenshot(path=given.output, full_page=True, clip=clip)  # type: ignore[arg-type]
        chromium.close()
    return 0


if __name__ == "__main__":
    command.run(main)
