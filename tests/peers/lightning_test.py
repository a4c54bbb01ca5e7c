"""coming_from_lightning.md: every epoch of the run is that of Lightning's."""

import numpy as np
import pytest

from tests import _pages
from tests.peers import _pages_of_peers

PAGE = _pages_of_peers.DOCS / "guides" / "coming_from_lightning.md"
TEXT = PAGE.read_text(encoding="utf-8")
RECORD = _pages_of_peers.record("lightning")
ROWS = RECORD["rows"]


@pytest.fixture(scope="module")
def page():
    return _pages.run_page(PAGE)


def test_every_epoch(page):
    history = page["history"]
    assert len(history) == len(ROWS) == RECORD["stopped_epoch"] + 1 < 60
    for name in ("y1", "y2"):
        ours = [record["values"][name] for record in history]
        np.testing.assert_allclose(ours, [row[name] for row in ROWS], rtol=2e-4)
    for name in ("loss", "y1", "y2"):
        ours = [record["validation"][name] for record in history]
        told = [row[f"val_{name}"] for row in ROWS]
        np.testing.assert_allclose(ours, told, rtol=2e-4)


def test_rates_and_the_best(page):
    """`lower_rate` is called after an epoch, and so is Lightning's scheduler."""
    history, best = page["history"], page["best"]
    after = [0.4 * page["scale"](history[: n + 1]) for n in range(len(history))]
    told = [row["rate"] for row in ROWS]
    assert len(set(told)) > 2
    np.testing.assert_allclose(after[:-1], told[1:], rtol=1e-6)
    assert best.step == 4 * (RECORD["best_epoch"] + 1) == 2 * RECORD["best_step"]
    for name, layer in best.params.items():
        for part, theirs in {"kernel": "weight", "bias": "bias"}.items():
            told = np.array(RECORD["restored"][f"layers.{name}.{theirs}"])
            np.testing.assert_allclose(layer[part], told, atol=2e-4)


def test_quotes():
    assert f"Lightning {RECORD['versions']['lightning']}" in TEXT
    table = _pages_of_peers.rows(TEXT, "| epoch | `y1` | `y2` | `val_loss` |")
    epochs = [0, 1, 2, RECORD["best_epoch"], RECORD["stopped_epoch"]]
    assert table == [
        [str(e), *(f"{ROWS[e][n]:.4f}" for n in ("y1", "y2", "val_loss"))]
        for e in epochs
    ]


def test_the_odd_batch(page):
    assert page["way"] == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0]
    assert RECORD["ragged"] == [0.0, 0.0, 1.0, 1.5, 1.5, 2.5, 3.0]
    assert f"{RECORD['ragged']}" in TEXT
