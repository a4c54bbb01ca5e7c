"""`monitor`: contributions now and then, and in `make_step` and `fit`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw


def values_fn(p, x):
    h = p["trunk"] * x
    return {"a": jnp.mean((p["a"] * h - 1.0) ** 2), "b": jnp.mean((p["b"] * h) ** 2)}


PARAMS = {"trunk": jnp.float32(0.7), "a": jnp.float32(2.0), "b": jnp.float32(-1.0)}
X = jnp.array([0.5, 1.0, 2.0])


def test_samples_are_contributions_and_nan_in_between():
    watch = hw.gradients.monitor(values_fn, 3)

    @jax.jit
    def run():
        def body(carry, step):
            weights = {"a": 0.5, "b": 2.0}
            return carry, watch(step, PARAMS, X, weights=weights)

        return jax.lax.scan(body, 0, jnp.arange(7))[1]

    found = run()
    grads = hw.head_grads(values_fn)(PARAMS, X)[1]
    expected = hw.contributions(grads, {"a": 0.5, "b": 2.0})
    for name in ("norm", "share", "cosine"):
        rows = np.asarray(getattr(found, name))
        for step, row in enumerate(rows):
            if step % 3:
                assert np.isnan(row).all()
            else:
                # The same operations, fused differently.
                np.testing.assert_allclose(row, getattr(expected, name), rtol=1e-5)


def test_step_samples_the_applied_update():
    optimizer, balancer = optax.adam(0.1), hw.balancers.constant({"a": 1.0, "b": 0.5})
    state = hw.training.init_state(["a", "b"], PARAMS, optimizer, balancer)

    def make(contributions):
        make_step = hw.training.make_step
        return jax.jit(
            make_step(values_fn, optimizer, balancer, contributions=contributions)
        )

    always, sampled = make(True), make(2)
    one = two = state
    for t in range(4):
        one, expected = always(one, X)
        two, info = sampled(two, X)
        if t % 2:
            assert np.isnan(info.contributions.share).all()
        else:
            np.testing.assert_allclose(
                info.contributions.share, expected.contributions.share, atol=1e-5
            )
    for name in PARAMS:
        np.testing.assert_allclose(one.params[name], two.params[name], rtol=1e-5)


def test_fit_records_the_samples():
    optimizer, balancer = optax.sgd(0.01), hw.balancers.equal()
    step = hw.training.make_step(values_fn, optimizer, balancer, contributions=4)
    state = hw.training.init_state(["a", "b"], PARAMS, optimizer, balancer)
    _, history = hw.training.fit(
        step, state, lambda t: X, 6, log_every=2, progress=False
    )
    assert ["contributions" in record for record in history] == [True, False, True]
    assert np.isfinite(history[2]["contributions"]["trunk"]["a"]["share"])


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"every: expected a positive int.*0"):
        hw.gradients.monitor(values_fn, 0)
