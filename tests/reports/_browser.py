"""A page in a real browser without a network; skipped where no Chromium is."""

import contextlib

import pytest

from experiments.studies import report_picture


def find():
    """The path of a Chromium, or a skip that says so."""
    found = report_picture.browser()
    if not found:
        pytest.skip(
            f"no browser: none of {', '.join(report_picture.BROWSERS)} is there"
        )
    pytest.importorskip("playwright", reason="playwright drives the browser")
    return found


@contextlib.contextmanager
def browser():
    """A headless Chromium; software draws what wants a graphics card."""
    from playwright.sync_api import sync_playwright

    path = find()
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=path, args=report_picture.FLAGS, timeout=300_000
        )
        try:
            yield chromium
        finally:
            chromium.close()


@contextlib.contextmanager
def opened(chromium, path, width=1280, scheme="light"):
    """A page; whatever it complains of, or asks the network for, is an error."""
    size = {"width": width, "height": 900}
    context = chromium.new_context(viewport=size, color_scheme=scheme, offline=True)
    context.set_default_timeout(300_000)  # ms; software draws, beside other tests
    page = context.new_page()
    said = []
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: said.append(r.url) if r.url[:4] == "http" else None)
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", state="attached")
    yield page
    assert said == []
    context.close()
