"""Bilevel steps in `fit`: records, resume, contributions, microbatches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.training import _bilevel_cases

NAMES = _bilevel_cases.NAMES
METHODS = {
    "auto_lambda": hw.training.auto_lambda(["a"], 0.5, optax.adam(0.05)),
    "moml": hw.training.moml(optax.adam(0.05)),
    "forum": hw.training.forum(0.2, optax.adam(0.05)),
}
OPTIMIZER = optax.adam(0.02)


@jax.jit
def batch_at(t):
    """A regression with noise; training and validation draw apart.

    No array is part of it, so that the program is one in all runs.
    """
    truth = jnp.sin(2.0 * jnp.arange(6.0) + 1.0).reshape(3, 2)

    def draw(key):
        of_x, of_noise = jax.random.split(key)
        x = jax.random.normal(of_x, (6, 3))
        noise = 0.1 * jax.random.normal(of_noise, (6, 2))
        return x, jnp.tanh(x @ truth) + noise

    keys = jax.random.split(jax.random.fold_in(jax.random.key(7), t))
    return draw(keys[0]), draw(keys[1])


@functools.cache  # one step is one program, in all runs of it
def make(name, **options):
    return hw.training.make_bilevel_step(
        _bilevel_cases.values_fn, OPTIMIZER, METHODS[name], **options
    )


def first_state(name):
    params, _ = _bilevel_cases.make_case(np.float32)
    return hw.training.init_bilevel_state(
        NAMES, params, OPTIMIZER, METHODS[name], key=jax.random.key(3)
    )


def fit(name, steps, workdir=None, **options):
    given = {"log_every": 5, "checkpoint_every": 10, "progress": False} | options
    step = given.pop("step", None) or make(name)
    return hw.training.fit(
        step, first_state(name), batch_at, steps, workdir=workdir, **given
    )


def data(state):
    """The arrays of a state, keys as numbers."""
    state = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(state)]


@jax.jit
def validate(params, rest):
    return _bilevel_cases.values_fn(params, batch_at(10**6)[1])


@pytest.mark.optimized
@pytest.mark.parametrize("name", METHODS)
def test_fits_and_resumes_bit_for_bit(name, tmp_path):
    options = {"validate": validate, "validate_every": 20}
    whole, history = fit(name, 40, tmp_path / "whole", **options)
    fit(name, 20, tmp_path / "parts", **options)
    resumed, parts = fit(name, 40, tmp_path / "parts", **options)
    for a, b in zip(data(whole), data(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history == parts
    files = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "parts")]
    assert files[0] == files[1]
    assert [record["step"] for record in history] == list(range(5, 45, 5))
    assert history[-1]["validation"]["a"] < history[3]["validation"]["a"]
    # The weights moved, and the record has those that the step used.
    assert history[0]["weights"] != history[-1]["weights"]
    assert set(history[0]["weights"]) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "how"), [("auto_lambda", True), ("moml", 4), ("forum", "report")]
)
def test_contributions_are_reported(name, how):
    if how == "report":
        options = {"report": make(name, contributions=True), "report_every": 10}
    else:
        options = {"step": make(name, contributions=how)}
    state, history = fit(name, 20, **options)
    reporting = [record["step"] for record in history if "contributions" in record]
    assert reporting == ([5, 15] if how == "report" else [5, 10, 15, 20])
    # A sample in between has no gramian to count them in.
    knows = ["conflicts" in record for record in history if "contributions" in record]
    assert not any(knows) if how == 4 else all(knows)
    for record in history:
        for module, row in record.get("contributions", {}).items():
            shares = [row[n]["share"] for n in NAMES]
            if module == "trunk":
                np.testing.assert_allclose(np.sum(shares), 1.0, rtol=1e-4)
            else:
                assert [share == 0 for share in shares] == [n != module for n in NAMES]
    # To look changes nothing.
    plain, _ = fit(name, 20)
    for a, b in zip(data(plain), data(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_shares_are_those_of_the_applied_update_and_conflicts_are_counted():
    name = "moml"
    state, batches = first_state(name), batch_at(0)
    new, info = jax.jit(make(name, contributions=True))(state, batches)
    slopes = jax.jacrev(lambda p: _bilevel_cases.values_fn(p, batches[0]))
    slopes = jax.jit(slopes)(state.params)
    grads = [np.asarray(slopes[n]["trunk"]) for n in NAMES]
    before, after = (np.asarray(s.params["trunk"]) for s in (state, new))
    update = np.float64(after - before)
    pulls = [np.sum(info.weights[n] * g * update) for n, g in zip(NAMES, grads)]
    row = info.contributions.modules.index("trunk")
    # the update is a float32 difference of parameters
    np.testing.assert_allclose(
        info.contributions.share[row], np.array(pulls) / sum(pulls), rtol=1e-3
    )
    rows = np.stack([np.ravel(g) for g in grads])
    assert info.conflicts == np.sum(np.triu(rows @ rows.T, 1) < 0)


@pytest.mark.parametrize(
    ("name", "steps"), [("auto_lambda", 3), ("moml", 1), ("forum", 1)]
)
def test_microbatches_equal_the_whole_batch(name, steps):
    """All values are plain means over the batch, and so are their derivatives."""
    state, batches = first_state(name), batch_at(0)
    whole, info = jax.jit(make(name, inner_steps=steps))(state, batches)
    step = make(name, inner_steps=steps, microbatches=3, contributions=True)
    parts, info_of_parts = jax.jit(step)(state, batches)
    for field in ("values", "valid_values", "weights", "grad_norm", "slopes"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
            getattr(info_of_parts, field),
            getattr(info, field),
        )
    assert info_of_parts.contributions is not None
    for a, b in zip(data(whole), data(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4)


def test_microbatches_in_fit():
    whole, history = fit("auto_lambda", 10)
    step = make("auto_lambda", microbatches=2)
    parts, records = fit("auto_lambda", 10, step=step)
    np.testing.assert_allclose(
        records[-1]["values"]["a"], history[-1]["values"]["a"], rtol=1e-3
    )
    assert int(parts.step) == int(whole.step) == 10


def test_stops_at_the_first_step_that_is_not_finite(tmp_path):
    def batches(t):
        factor = jnp.nan if t == 7 else 1.0
        return jax.tree.map(lambda x: factor * x, batch_at(t))

    with pytest.raises(hw.training.NonFiniteError, match=r"step 7: .*head 'a'"):
        hw.training.fit(
            make("moml"),
            first_state("moml"),
            batches,
            20,
            workdir=tmp_path,
            log_every=5,
            progress=False,
        )


def test_misuse_is_named():
    with pytest.raises(ValueError, match="microbatches: expected a positive int"):
        make("moml", microbatches=0)
    with pytest.raises(ValueError, match="contributions: expected an int >= 0"):
        make("moml", contributions=-1)
    step = make("moml", microbatches=4)
    with pytest.raises(ValueError, match=r"microbatches: .* divides .* got 4"):
        step(first_state("moml"), batch_at(0))
