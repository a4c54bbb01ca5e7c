"""coming_from_optuna_wandb.md: the values, front and rungs of Optuna's trials."""

import numpy as np
import pytest

import headwise as hw
from tests import _pages
from tests.peers import _pages_of_peers

PAGE = _pages_of_peers.DOCS / "guides" / "coming_from_optuna_wandb.md"
TEXT = PAGE.read_text(encoding="utf-8")
RECORD = _pages_of_peers.record("optuna")


@pytest.fixture(scope="module")
def page():
    return _pages.run_page(PAGE)


def settings(record):
    near, rate = record["weights"]["near"], record["settings"]["rate"]
    return round(float(near), 4), round(float(rate), 4)


def test_values_and_front_are_optunas(page):
    ours = {settings(r): r["metrics"] for r in page["records"]}
    assert len(ours) == len(RECORD["trials"]) == 8
    for trial in RECORD["trials"]:
        metrics = ours[trial["near"], trial["rate"]]
        for name in ("near", "far"):
            np.testing.assert_allclose(metrics[name], trial[f"value {name}"], atol=1e-5)
    front = {
        settings(r) for r, b in zip(page["records"], page["best"], strict=True) if b
    }
    assert front == {(t["near"], t["rate"]) for t in RECORD["front"]}
    assert 1 < len(front) < 8


def test_the_pruner_of_optuna_depends_on_the_order(page):
    states = [trial["state"] for trial in RECORD["halved"]]
    assert states[0] == "COMPLETE"  # whatever it is worth
    assert f"{states.count('PRUNED')} of the 8" in TEXT
    assert page["stopped"].count(None) == 2
    scores = {settings(r): r["metrics"]["sum"] for r in page["records"]}
    assert settings(page["kept"]) == min(scores, key=scores.get)


def test_quotes():
    assert f"Optuna {RECORD['versions']['optuna']}" in TEXT
    table = _pages_of_peers.rows(TEXT, "| `near` | `rate` |")
    told = sorted(RECORD["trials"], key=lambda t: (t["near"], t["rate"]))
    front = [(t["near"], t["rate"]) for t in RECORD["front"]]
    for row, trial in zip(table, told, strict=True):
        place = trial["near"], trial["rate"]
        values = (f"{trial[f'value {name}']:.4f}" for name in ("near", "far"))
        assert row == [*map(str, place), *values, "yes" if place in front else ""]


def test_terms_are_names_of_ours():
    for name in ("grid", "log_grid", "simplex", "dirichlet", "sobol", "latin"):
        assert f"`{name}`" in TEXT or f"hw.sweeps.{name}" in TEXT
        assert name in hw.sweeps.__all__
