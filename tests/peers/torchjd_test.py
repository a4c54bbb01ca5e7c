"""coming_from_torchjd.md: its examples come to the recorded numbers of TorchJD."""

import jax
import numpy as np
import pytest

import headwise as hw
from tests import _pages
from tests.peers import _pages_of_peers

PAGE = _pages_of_peers.DOCS / "guides" / "coming_from_torchjd.md"
RECORD = _pages_of_peers.record("torchjd")
EXACT = RECORD["exact"]
HALF = {"amp": 5e-3}  # of mixed precision: 11 bits


@pytest.fixture(scope="module")
def page():
    return _pages.run_page(PAGE)


def in_order(params):
    """Arrays in the order of torch's parameters: trunk first, kernels before biases."""
    if hasattr(params, "shape"):
        return [params]
    if isinstance(params, dict):
        order = ("kernel", "bias", "input", "state", "trunk", "left", "right")
        branches = [params[name] for name in order if name in params]
    else:
        branches = params
    return [leaf for branch in branches for leaf in in_order(branch)]


def losses(example, told):
    """[steps, heads] of what was recorded, heads sorted by name as ours."""
    array = np.array(told)
    return array.reshape(len(array), -1) if example == "iwmtl" else array


@pytest.mark.parametrize("example", [name for name in EXACT if name != "monitoring"])
def test_every_loss_and_every_parameter_is_torchjds(page, example):
    """Eight steps of float32 beside float64."""
    state, infos = page["found"][example]
    values = [
        info["values"] if isinstance(info, dict) else info.values for info in infos
    ]
    ours = np.array([[row[name] for name in sorted(row)] for row in values])
    tolerance = HALF.get(example, 2e-5)
    told = losses(example, EXACT[example]["losses"])
    np.testing.assert_allclose(ours, told, atol=tolerance)
    final = in_order(state.params)
    assert len(final) == len(EXACT[example]["final"])
    for got, expected in zip(final, EXACT[example]["final"], strict=True):
        np.testing.assert_allclose(got, expected, atol=tolerance)


def test_the_rules_matter(page):
    """Equal weights come elsewhere, so that the comparison says something."""
    told = np.array(EXACT["mtl"]["weights"])
    assert np.abs(told - 0.5).max() > 0.05
    found = [list(info.weights.values()) for info in page["found"]["mtl"][1]]
    np.testing.assert_allclose(found, told, atol=1e-4)
    np.testing.assert_allclose(page["cosines"], RECORD["cosines"], atol=1e-5)
    assert min(RECORD["cosines"]) < 0.999


def test_torchjds_ridge_moves_the_numbers():
    gap = max(
        np.abs(np.array(EXACT[name]["losses"]) - np.array(told)).max()
        for name, told in RECORD["defaults"].items()
    )
    assert f"differ by up to {gap:.1g}." in PAGE.read_text(encoding="utf-8")


def test_short_gradients():
    text = PAGE.read_text(encoding="utf-8")
    gram = np.array([[18.0, -22.0], [-22.0, 38.0]])
    balancer = hw.balancers.upgrad()
    update = jax.jit(balancer.update)
    table = _pages_of_peers.rows(text, "| s |")
    assert len(table) == 2
    for s, theirs, ours in table:
        told = RECORD["short gradients"][str(float(s))]
        assert theirs == ", ".join(f"{x:.3f}" for x in told)
        signals = hw.Signals(values=np.ones(2), gram=gram * float(s) ** 2)
        weights = update(signals, balancer.init(["a", "b"]))[0].weights
        direction = weights @ np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
        assert ours == ", ".join(f"{x:.3f}" for x in direction)


def test_every_aggregator_and_scalarizer_has_its_row():
    text = PAGE.read_text(encoding="utf-8")
    assert f"TorchJD {RECORD['versions']['torchjd']}" in text
    table = _pages_of_peers.rows(text, "| TorchJD | Headwise | mind |")
    theirs = {name for row in table for name in _pages_of_peers.quoted(row[0])}
    abstract = {"Aggregator", "Weighting", "Scalarizer"}
    wanted = {
        name
        for name in set(RECORD["names"]) - abstract
        if not name.endswith("Aggregator")
        and name.removesuffix("Weighting") not in theirs
    }
    assert wanted <= theirs
    assert {name.removesuffix("Weighting") for name in theirs} <= {
        name.removesuffix("Weighting") for name in RECORD["names"]
    }
    ours = {name for row in table for name in _pages_of_peers.quoted(row[1])}
    assert ours - {"weights=", "hw", "smoothed"} <= set(hw.balancers.__all__)
