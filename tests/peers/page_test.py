"""coming_from_keras.md: its code runs, and its numbers are the recorded ones."""

import json
import pathlib

import numpy as np
import pytest

from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "coming_from_keras.md"
RECORD = json.loads(
    pathlib.Path(__file__).with_name("keras_two_outputs.json").read_text()
)


CALLBACKS = json.loads(
    pathlib.Path(__file__).with_name("keras_callbacks.json").read_text()
)


@pytest.fixture(scope="module")
def page():
    """The page's names, once all of its code has run and printed what it shows."""
    return _pages.run_page(PAGE)


def test_the_script_with_callbacks_has_the_curves_of_keras(page):
    """Every number of every epoch, where it stops, what is restored."""
    history, best, told = page["history"], page["best"], CALLBACKS["history"]
    assert len(history) == len(told["loss"]) == CALLBACKS["stopped_epoch"] + 1 < 60
    assert history[-1]["stopped"].endswith("in 6 records")
    assert best.step == 3 * (CALLBACKS["best_epoch"] + 1)
    rates = [record["hyperparams"]["learning_rate"] for record in history]
    np.testing.assert_allclose(rates, told["learning_rate"], rtol=1e-6)
    assert len(set(rates)) > 2
    for name in ("y1", "y2"):
        ours = [record["values"][name] for record in history]
        np.testing.assert_allclose(ours, told[f"{name}_loss"], rtol=2e-4)
        ours = [record["validation"][name] for record in history]
        np.testing.assert_allclose(ours, told[f"val_{name}_loss"], rtol=2e-4)
    ours = [record["validation"]["loss"] for record in history]
    np.testing.assert_allclose(ours, told["val_loss"], rtol=2e-4)
    assert CALLBACKS["the checkpoint is what is restored"]
    for layer, weights in CALLBACKS["restored"].items():
        for name, array in weights.items():
            np.testing.assert_allclose(best.params[layer][name], array, atol=2e-4)


def test_quotes_the_epochs_of_the_script_with_callbacks():
    text, told = PAGE.read_text(encoding="utf-8"), CALLBACKS["history"]
    for epoch in (0, 1, 2, CALLBACKS["best_epoch"], CALLBACKS["stopped_epoch"]):
        names = ("y1_loss", "y2_loss", "val_loss")
        row = " | ".join(f"{told[name][epoch]:.4f}" for name in names)
        rate = told["learning_rate"][epoch]
        assert f"| {epoch} | {row} | {rate:.4g} |" in text


def test_quotes_what_keras_gave():
    text, sgd = PAGE.read_text(encoding="utf-8"), RECORD["training"]["sgd"]
    for epoch in (1, 10, 20):
        columns = sgd["total"], sgd["values"]["y1"], sgd["values"]["y2"]
        row = " | ".join(f"{column[epoch - 1]:.4f}" for column in columns)
        assert f"| {epoch} | {row} |" in text
    traps = RECORD["traps"]
    assert f"Keras {RECORD['versions']['keras']}" in text
    for trap, quoted in {
        "weights by other names": "| {:.0f}: the weights are taken by position |",
        "a list of losses, a dict of weights": "| {:.0f}, not 14: dict keys",
        "a list with one loss for two outputs": "| {:.0f}: `b` is not trained |",
        "an output forgotten in the losses": "| {:.0f}: `b` is not trained |",
        "weight 0 and a NaN": "| {} | 4: weight 0 drops",
        "sample weights for some outputs": "| `{}` |",
        "Dice, sample weights 1 and 0": "*both* examples, {:.4f}:",
        "Dice of the first example": "the first example's loss, {:.1f}, over",
        "Tversky of a false alarm, alpha=1, beta=0": "| {:.0f}: alpha weighs misses",
    }.items():
        assert quoted.format(traps[trap]) in text, trap


@pytest.mark.parametrize(
    "page",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```python\nprint(1)\n```\n",
        "```python\nx = 1\n```\n\n```text\n1\n```\n",
    ],
    ids=["other output", "output that is not shown", "output that is not printed"],
)
def test_a_page_that_shows_something_else_fails(page, tmp_path):
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(AssertionError, match="the page shows"):
        _pages.run_page(path)


def test_blocks_share_a_namespace_and_other_fences_are_only_shown(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(
        "```python\nx = 1\n```\n\n```py\nx = 2\n```\n\n```python\ny = x\n```\n"
    )
    assert _pages.run_page(path)["y"] == 1
