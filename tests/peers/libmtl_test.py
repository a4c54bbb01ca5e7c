"""coming_from_libmtl.md: six weightings come to the recorded numbers of LibMTL."""

import numpy as np
import pytest

import headwise as hw
from tests import _pages
from tests.peers import _pages_of_peers

PAGE = _pages_of_peers.DOCS / "guides" / "coming_from_libmtl.md"
TEXT = PAGE.read_text(encoding="utf-8")
RECORD = _pages_of_peers.record("libmtl")
TRAINING = RECORD["training"]
# LibMTL solves the inner program of CAGrad by SLSQP, MGDA's by a walk that ends at
# 1e-5 and gives back the point before.
LOOSE = {"CAGrad": 2e-3, "MGDA": 2e-3}


@pytest.fixture(scope="module")
def page():
    return _pages.run_page(PAGE)


def final_of(params):
    def pair(layer):
        return [layer["kernel"], layer["bias"]]

    trunk = [array for layer in params["trunk"] for array in pair(layer)]
    return {"trunk": trunk, **{name: pair(params[name]) for name in "abc"}}


@pytest.mark.parametrize("name", [n for n in TRAINING if n != "IMTL"])
def test_every_value_and_every_parameter_is_libmtls(page, name):
    state, infos = page["found"][name]
    told, tolerance = TRAINING[name], LOOSE.get(name, 2e-5)
    ours = [[info.values[task] for task in "abc"] for info in infos]
    np.testing.assert_allclose(ours, told["values"], atol=tolerance)
    for part, arrays in final_of(state.params).items():
        for got, expected in zip(arrays, told["final"][part], strict=True):
            np.testing.assert_allclose(got, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["EW", "DWA", "MGDA"])
def test_logged_weights_are_the_effective_ones(page, name):
    """Those of UW are logged after its backward pass, but before its step: the same."""
    infos, told = page["found"][name][1], TRAINING[name]["weights"]
    ours = [[info.weights[task] for task in "abc"] for info in infos]
    np.testing.assert_allclose(ours, told, atol=5e-3 if name == "MGDA" else 1e-4)


def test_the_decoders_of_a_gradient_method_are_not_weighted(page):
    """With the weights on the decoders, MGDA's would have come elsewhere."""
    weights = np.array(TRAINING["MGDA"]["weights"])
    assert weights.min() < 0.9  # a decoder times this would be another one


def test_quotes():
    text = TEXT
    assert f"LibMTL {RECORD['versions']['LibMTL']}" in text
    table = _pages_of_peers.rows(text, "| LibMTL | a | b | c |")
    for name, *shown in table:
        told = TRAINING[name.strip("`")]["values"][-1]
        assert shown == [f"{value:.4f}" for value in told], name
    assert "ValueError" in RECORD["CAGrad of two tasks"]


def test_improvement(page):
    np.testing.assert_allclose(page["gain"] / 100, RECORD["improvement"], atol=1e-6)


def test_every_weighting_has_its_row():
    table = _pages_of_peers.rows(
        TEXT.split("## Weightings")[1], "| LibMTL | Headwise |"
    )
    theirs = {name for row in table for name in _pages_of_peers.quoted(row[0])}
    assert set(RECORD["names"]) <= theirs
    ours = {_pages_of_peers.quoted(row[1])[0] for row in table}
    assert ours <= set(hw.balancers.__all__)
    for architecture in RECORD["architectures"]:
        assert f"`{architecture}`" in TEXT
