"""fit in epochs: what is due, batches that start anew, exact resume, bad input."""

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

OPTIMIZER = optax.sgd(0.25)  # halves the gap


def values_fn(params, batch):
    return {"a": (params["p"] - batch) ** 2}


STEP = jax.jit(hw.training.make_step(values_fn, OPTIMIZER))


def validate(params, rest):
    return {"p": params["p"]}


def fit(batches=lambda t: 0.0, steps=None, **options):
    state = hw.training.init_state(["a"], {"p": jnp.array(1.0)}, OPTIMIZER)
    return hw.training.fit(STEP, state, batches, steps, progress=False, **options)


def test_a_record_and_a_validation_each():
    goals = [0.0, 1.0, 2.0]
    state, history = fit(goals, epochs=2, validate=validate)
    assert [r["step"] for r in history] == [3, 6]
    assert [r["epoch"] for r in history] == [1, 2]
    p = 1.0
    for goal in goals * 2:
        p = (p + goal) / 2
    assert ["validation" in r for r in history] == [True, True]
    np.testing.assert_allclose(state.params["p"], p, rtol=1e-6)


def test_periods_may_be_others():
    _, history = fit(
        epochs=2,
        steps_per_epoch=4,
        log_every=3,
        validate=validate,
        validate_every=8,
    )
    told = [(r["step"], r["epoch"], "validation" in r) for r in history]
    assert told == [(3, 0.75, False), (6, 1.5, False), (8, 2, True)]


def test_batches_go_on_over_the_end_of_an_epoch():
    """Three of five goals an epoch: the pass after them starts at the first."""
    goals = [0.0, 1.0, 2.0, 3.0, 4.0]
    state, _ = fit(goals, epochs=4, steps_per_epoch=3)
    same, _ = fit(lambda t: goals[t % 5], 12)
    np.testing.assert_array_equal(state.params["p"], same.params["p"])


@pytest.mark.parametrize("kind", ["list", "grain"])
def test_resumes_exactly(kind, tmp_path):
    goals = [0.0, 1.0, 2.0]
    if kind == "grain":
        goals = grain.MapDataset.source(goals).to_iter_dataset()
    options = {"steps_per_epoch": 3, "checkpoint_every": 1}
    whole, history = fit(goals, epochs=3, workdir=tmp_path / "whole", **options)
    fit(goals, epochs=1, workdir=tmp_path / "parts", **options)
    state, parts = fit(goals, epochs=3, workdir=tmp_path / "parts", **options)
    assert history == parts
    np.testing.assert_array_equal(whole.params["p"], state.params["p"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "steps, epochs: expected exactly one of them, got neither"),
        (
            {"steps": 3, "epochs": 1},
            "steps, epochs: expected exactly one of them, got steps=3 and epochs=1",
        ),
        ({"epochs": 0}, "epochs: expected a positive int, got 0"),
        (
            {"steps": 3, "steps_per_epoch": 3},
            "steps_per_epoch: goes with epochs, got 3 with steps=3",
        ),
        (
            {"epochs": 2},
            r"steps_per_epoch: expected a number, since the batches \(the function",
        ),
        (
            {"epochs": 2, "batches": (x for x in [0.0, 1.0])},
            r"steps_per_epoch: .* \(generator\) do not tell how many",
        ),
        (
            {
                "epochs": 2,
                "steps_per_epoch": 2,
                "batches": (x for x in [0.0, 1.0]),
            },
            "batches: expected a batch for step 2, .* iterator cannot start anew",
        ),
        (
            {"epochs": 2, "steps_per_epoch": 2, "batches": ()},
            "batches: expected a batch for step 0, but the iterable has ended",
        ),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        fit(**options)
