"""coming_from_monai.md: losses, metrics and a training come to MONAI's numbers."""

import re

import numpy as np
import pytest

import headwise as hw
from tests import _pages
from tests.peers import _pages_of_peers

PAGE = _pages_of_peers.DOCS / "guides" / "coming_from_monai.md"
TEXT = PAGE.read_text(encoding="utf-8")
RECORD = _pages_of_peers.record("monai")


@pytest.fixture(scope="module")
def page():
    return _pages.run_page(PAGE)


def test_losses(page):
    assert list(page["values"]) == list(RECORD["losses"])
    for name, value in page["values"].items():
        np.testing.assert_allclose(value, RECORD["losses"][name], rtol=2e-5)
    table = _pages_of_peers.rows(TEXT, "| MONAI | value | Headwise |")
    told = [f"{value:.4f}" for value in RECORD["losses"].values()]
    assert [row[1] for row in table] == told


def test_metrics(page):
    """MONAI gives [B, C]; of every class both examples have some."""
    for name, value in page["scores"].items():
        told = np.mean(RECORD["metrics"][name], axis=0)
        np.testing.assert_allclose(value, told, rtol=1e-5)
    mean = np.mean(page["scores"]["dice"])
    np.testing.assert_allclose(mean, RECORD["metrics"]["dice metric"], rtol=1e-5)


def test_training(page):
    told = RECORD["training"]
    ours = [record["values"]["organs"] for record in page["history"]]
    np.testing.assert_allclose(ours, told["losses"], rtol=2e-4)
    assert told["losses"][-1] < 0.7 * told["losses"][0]
    np.testing.assert_allclose(page["score"].mean, told["dice"], atol=1e-4)
    quote = [told["losses"][i] for i in (0, 9, 19)] + [told["dice"]]
    assert "{:.4f}, {:.4f} and {:.4f}, and a Dice of {:.4f}".format(*quote) in TEXT


def test_traps():
    """Where MONAI and we differ: its recorded value, and ours."""
    assert f"MONAI {RECORD['versions']['monai']}" in TEXT
    traps = RECORD["traps"]
    table = _pages_of_peers.rows(TEXT, "| in MONAI | value | here |")
    told = [v if v == "NaN" else f"{v:.4f}" for v in traps.values()]
    shown = [value for row in table for value in re.split(", ", row[1])]
    assert shown == told
    faint, empty = np.full((1, 4, 4, 1), 1e-3, np.float32), np.zeros((1, 4, 4, 1))
    dice = hw.losses.dice
    np.testing.assert_allclose(
        dice(faint, empty)[0, 0], traps["empty target, p = 0.001"], rtol=1e-5
    )
    assert dice(empty.astype(np.float32), empty, smooth=0.0)[0, 0] == 0.0
