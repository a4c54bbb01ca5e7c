"""fit.md: its code runs and prints what it shows, and it names what there is."""

import pathlib

import headwise as hw
from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "fit.md"


def test_prints_what_it_shows():
    names = _pages.run_page(PAGE)
    # What it says of the last table: all of them train.
    assert names["last"] < names["first"]


def test_what_decides_by_records_is_on_it():
    text = PAGE.read_text(encoding="utf-8")
    for name in ("patience", "reached", "out_of_time", "any_of", "plateau", "ema"):
        assert f"hw.training.{name}" in text
        assert callable(getattr(hw.training, name))
