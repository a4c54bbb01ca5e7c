"""docs/guides/report.md: its code runs, and it names what there is."""

import pathlib
import re

from headwise.reports._page import _curves
from tests import _pages

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/guides/report.md"


def test_the_page_runs():
    _pages.run_page(PAGE)


def test_numbers_and_names_of_the_page():
    text = PAGE.read_text()
    assert f"Curves are shown of {_curves.MOST} trials" in text
    assert f"at most about {_curves.ROWS} rows" in text
    script = ROOT / "research/headwise/reports/_page/static/state.js"
    (many,) = re.findall(r"const MANY = (\d+);", script.read_text())
    assert f"{int(many):,} are drawn" in text
    assert "headwise-report = " in (ROOT / "setup.cfg").read_text()
