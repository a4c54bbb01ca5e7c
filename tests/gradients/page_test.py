"""The page on head gradients runs as written."""

import pathlib

import pytest

from tests import _pages

pytestmark = pytest.mark.optimized

ROOT = pathlib.Path(__file__).parents[2]


def test_page_runs_as_written():
    namespace = _pages.run_page(ROOT / "docs" / "guides" / "head_gradients.md")
    assert set(namespace["grads"]) == {"y1", "y2"}
