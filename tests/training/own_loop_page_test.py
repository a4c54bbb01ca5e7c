"""own_loop.md runs as written: every loop gives the numbers of `make_step`."""

import pathlib

from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "own_loop.md"


def test_page_runs_as_written():
    namespace = _pages.run_page(PAGE)
    assert set(namespace["info"].weights) == {"shape", "size"}


def test_links_lead_somewhere():
    for target in _pages.links(PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target
