"""The page on data runs as written."""

import pathlib

import headwise as hw
from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "data.md"


def test_page_runs_as_written():
    namespace = _pages.run_page(PAGE)
    assert namespace["state"].step == 4


def test_ways_to_feed_and_links_are_on_the_page():
    text = PAGE.read_text()
    for name in ("sample", "epochs", "stream", "mix"):
        assert f"`hw.data.{name}(" in text
        assert name in hw.data.__all__
    for link in _pages.links(text):
        file = link.split("#")[0]
        assert not file or (PAGE.parent / file).exists(), link
