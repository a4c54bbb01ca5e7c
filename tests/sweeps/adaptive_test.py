"""run with a search and with halving: studies that decide as they go."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

STEPS = 12


def init(trial):
    return {"x": jnp.float32(1.0), "trial": trial}


def step(state, t):
    """x loses the part w of itself; with w = 3/4 it blows up in the second step."""
    w = state["trial"]["weights"]["a"]
    bad = jnp.where((w == 0.75) & (t == 1), jnp.inf, 1.0)
    return state | {"x": state["x"] * (1 - w) * bad}, {"values": {"a": state["x"]}}


def evaluate(state):
    rate = state["trial"].get("lr", jnp.float32(1))
    return {"m": state["x"], "rate": (jnp.log10(rate) + 2) ** 2}


PROGRAM = hw.sweeps.Program(init, step, evaluate)


def left(w, t):
    """What is left of x, in float64."""
    return math.nan if w == 0.75 and t > 1 else (1 - w) ** t


def go(*design, **options):
    options = {"steps": STEPS, "mode": "vmap", "progress": False} | options
    return hw.sweeps.run(PROGRAM, *design, **options)


def textbook(weights, rungs):
    """{weight: the rung at which it stops, None for one that comes to the end}."""
    ends = dict.fromkeys(weights)
    alive = list(weights)
    for rung in rungs:
        alive.sort(
            key=lambda w: math.inf if math.isnan(left(w, rung)) else left(w, rung)
        )
        count = math.ceil(len(alive) / 3)
        ends |= dict.fromkeys(alive[count:], rung)
        alive = alive[:count]
    return ends


WEIGHTS = [0.5, 0.25, 0.125, 0.0625, 0.75, 0.03125, 0.875, 0.9375, 0.015625]


def test_halving_stops_whom_the_textbook_stops():
    plan = hw.sweeps.halving("m", False, (1, 3))
    whole = go({"a": WEIGHTS})
    early = go({"a": WEIGHTS}, halving=plan)
    ends = textbook(WEIGHTS, (1, 3))
    for w, one, full in zip(WEIGHTS, early, whole, strict=True):
        end = ends[w]
        if w == 0.75:  # among the best of the first rung, and broken before the next
            assert (end, one["stopped"], full["stopped"]) == (3, 1, 1)
            assert one["error"] == full["error"] is not None
            assert not hw.sweeps.halved(one)
            continue
        assert one["stopped"] == end
        assert one["error"] is None
        if end is None:
            assert one["metrics"] == full["metrics"]
            assert one["finite"]
        else:
            assert hw.sweeps.halved(one)
            assert one["metrics"]["m"] == pytest.approx(left(w, end), rel=1e-6)
    assert list(ends.values()).count(None) == 1


@pytest.mark.parametrize("size", [2, 4])
def test_places_are_filled_and_no_size_loses_a_trial(size, tmp_path):
    """Who waits gets a place; what is said of a rung is the same after a look back."""
    plan = hw.sweeps.halving("m", False, (1, 3))
    first = go({"a": WEIGHTS}, halving=plan, size=size, folder=tmp_path)
    assert [one["weights"]["a"] for one in first] == WEIGHTS
    for one in first:
        end = one["stopped"]
        assert end in (None, 1, 3)
        if one["error"] is None:
            value = left(one["weights"]["a"], end or STEPS)
            assert one["metrics"]["m"] == pytest.approx(value, rel=1e-6)
    assert any(one["finite"] for one in first)
    assert go({"a": WEIGHTS}, halving=plan, size=size, folder=tmp_path) == first
    # A halved trial is none to try again.
    again = go({"a": WEIGHTS}, halving=plan, size=size, folder=tmp_path, retry=True)
    assert [r for r in again if r["error"] is None] == [
        r for r in first if r["error"] is None
    ]
    text = json.loads((tmp_path / "study.json").read_text())
    assert "0.3333" in json.dumps(text)
    with pytest.raises(hw.sweeps.StudyError, match="halving"):
        go({"a": WEIGHTS}, folder=tmp_path)


def plan(budget):
    return hw.sweeps.search(
        {"a": (0.5, 0.5)},
        vary={"lr": (1e-4, 1.0)},
        metrics={"rate": "min"},
        batch=4,
        budget=budget,
        sampler="tpe",
    )


def test_a_search_goes_on_where_it_stood(tmp_path):
    whole = go(search=plan(16))
    assert len(whole) == 16
    rates = [record["settings"]["lr"] for record in whole]
    assert len(set(rates)) == 16
    for record in whole:
        expected = (np.log10(record["settings"]["lr"]) + 2) ** 2
        assert record["metrics"]["rate"] == pytest.approx(expected, abs=1e-4)
    assert min(r["metrics"]["rate"] for r in whole[8:]) < 0.1
    # Half of it, then the rest: the same trials, and what is done is not run again.
    half = go(search=plan(8), folder=tmp_path)
    both = go(search=plan(16), folder=tmp_path)
    assert both[:8] == half
    assert [r["settings"]["lr"] for r in both] == rates
    assert [r["metrics"] for r in both] == [r["metrics"] for r in whole]
    assert len(hw.sweeps.read(tmp_path)) == 16
    assert (tmp_path / "optuna.log").stat().st_size > 1000
    assert go(search=plan(16), folder=tmp_path) == both
    with pytest.raises(hw.sweeps.StudyError, match="search"):
        go(search=plan(16)._replace(text=plan(16).text | {"seed": 1}), folder=tmp_path)


def test_a_search_and_halving_go_together():
    early = hw.sweeps.halving("rate", False, (4,), keep=0.5)
    records = go(search=plan(12), halving=early)
    assert len(records) == 12
    assert 4 <= sum(map(hw.sweeps.halved, records)) <= 8
    assert jax.tree.all([r["stopped"] in (None, 4) for r in records])
