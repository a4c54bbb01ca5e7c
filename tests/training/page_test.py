"""docs/fit.md: its code runs and prints what it shows."""

import pathlib

from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "fit.md"


def test_prints_what_it_shows():
    _pages.run_page(PAGE)
