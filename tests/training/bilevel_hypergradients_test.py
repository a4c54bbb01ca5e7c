"""Bilevel steps: hypergradients are exact, or converge to what is."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.training import _bilevel_cases


def looked_ahead(params, batches, inner, steps, weights):
    """[H] validation values after training with the weights: no derivative of it."""
    train_batch, valid_batch = batches
    state = inner.init(params)
    for _ in range(steps):
        grads = jax.grad(
            lambda p: sum(
                weights[i] * _bilevel_cases.values_fn(p, train_batch)[n]
                for i, n in enumerate(_bilevel_cases.NAMES)
            )
        )(params)
        updates, state = inner.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    found = _bilevel_cases.values_fn(params, valid_batch)
    return jnp.stack([found[n] for n in _bilevel_cases.NAMES])


def differences(function, at, size=1e-5):
    """[results, H] central differences."""
    columns = [
        (function(at + size * e) - function(at - size * e)) / (2 * size)
        for e in np.eye(len(at))
    ]
    return np.stack(columns, axis=-1)


INNER = {
    "sgd": optax.sgd(0.3),
    "momentum": optax.sgd(0.2, momentum=0.9),
    "adam": optax.adam(0.05, eps_root=1e-8),
}


@pytest.mark.parametrize(
    ("inner", "steps", "remat"),
    [("sgd", 1, False), ("sgd", 3, True), ("adam", 3, False)],
)
def test_auto_lambda_hypergradient_is_exact(inner, steps, remat):
    with jax.enable_x64(True):
        params, batches = _bilevel_cases.make_case()
        initial = {"a": 0.5, "b": 1.0, "c": 0.2}
        method = hw.training.auto_lambda(["a", "c"], initial, optax.sgd(0.25))
        state, info = _bilevel_cases.one_step(
            method,
            params,
            batches,
            inner_optimizer=INNER[inner],
            inner_steps=steps,
            remat=remat,
        )
        at = np.array([initial[n] for n in _bilevel_cases.NAMES])

        @jax.jit
        def ahead(weights):
            return looked_ahead(params, batches, INNER[inner], steps, weights)

        want = differences(ahead, at)[[0, 2]].sum(axis=0)
        got = np.array([info.slopes[n] for n in _bilevel_cases.NAMES])
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-9)
        found = [info.valid_values[n] for n in _bilevel_cases.NAMES]
        np.testing.assert_allclose(found, ahead(at), rtol=1e-10)
        np.testing.assert_allclose(state.upper.variables, at - 0.25 * got, rtol=1e-12)
        np.testing.assert_array_equal(
            [info.shares[n] for n in _bilevel_cases.NAMES], [1, 0, 1]
        )
        # The model then steps along the training gradient of the new weights.
        grads = jax.jit(
            jax.grad(
                lambda p: sum(
                    info.weights[n] * _bilevel_cases.values_fn(p, batches[0])[n]
                    for n in _bilevel_cases.NAMES
                )
            )
        )(params)
        moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        chex.assert_trees_all_close(state.params, moved, rtol=1e-10)


@pytest.mark.parametrize(("steps", "normalized"), [(1, True), (3, False)])
def test_moml_slopes_are_the_min_norm_of_exact_hypergradients(steps, normalized):
    with jax.enable_x64(True):
        params, batches = _bilevel_cases.make_case()
        method = hw.training.moml(optax.sgd(0.5), normalized=normalized)
        optimizer = optax.sgd(0.1)
        state = hw.training.init_bilevel_state(
            _bilevel_cases.NAMES, params, optimizer, method
        )
        logits = np.array([0.3, -0.2, 0.5])
        state = state._replace(upper=state.upper._replace(variables=logits))
        new, info = _bilevel_cases.one_step(
            method,
            params,
            batches,
            state,
            inner_optimizer=INNER["sgd"],
            inner_steps=steps,
        )

        @jax.jit
        def ahead(z):
            weights = jax.nn.softmax(z)
            return looked_ahead(params, batches, INNER["sgd"], steps, weights)

        rows = differences(ahead, logits)
        if normalized:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        shares = jax.jit(hw.solvers.min_norm)(jnp.asarray(rows @ rows.T))
        got = np.array([info.slopes[n] for n in _bilevel_cases.NAMES])
        np.testing.assert_allclose(got, shares @ rows, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(
            [info.shares[n] for n in _bilevel_cases.NAMES], shares, rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(new.upper.variables, logits - 0.5 * got, rtol=1e-10)


@pytest.mark.parametrize("inner", ["momentum", "adam"])
def test_finite_differences_converge_to_the_exact_hypergradient(inner):
    def slopes(params, batches, epsilon=None):
        options = {"hypergradient": "finite_difference", "epsilon": epsilon}
        method = hw.training.auto_lambda(
            ["a"], 0.7, **({} if epsilon is None else options)
        )
        _, info = _bilevel_cases.one_step(
            method, params, batches, inner_optimizer=INNER[inner]
        )
        return jnp.stack([info.slopes[n] for n in _bilevel_cases.NAMES])

    with jax.enable_x64(True):
        case = _bilevel_cases.make_case()
        exact = slopes(*case)
        approximate = jax.jit(lambda epsilon: slopes(*case, epsilon))
        errors = [np.abs(approximate(e) - exact).max() for e in (0.1, 0.01, 0.001)]
        size = np.abs(exact).max()
        assert errors[1] < 1e-3 * size
        assert errors[2] < 1e-5 * size
        assert errors[1] < errors[0] / 50  # of second order
    if inner == "momentum":  # in float32 the paper's 0.01 is good for two digits
        found = slopes(*_bilevel_cases.make_case(np.float32), 0.01)
        np.testing.assert_allclose(found, exact, rtol=1e-2, atol=1e-4)


def test_closed_form_on_quadratics():
    """θ_1 = θ - r Σ w (θ - t), so dθ_1 / dw_h = -r (θ - t_h)."""
    theta, rate = jnp.array([1.0, -2.0]), 0.25
    train = {"a": jnp.array([0.0, 1.0]), "b": jnp.array([3.0, 0.0])}
    valid = {"a": jnp.array([0.5, 0.5]), "b": jnp.array([2.0, 0.0])}
    optimizer = optax.sgd(rate)
    weights = {"a": 0.5, "b": 2.0}
    for inner in (optimizer, None):
        for hypergradient in ("unrolled", "finite_difference"):
            method = hw.training.auto_lambda(
                initial=weights, hypergradient=hypergradient, lower=0.0
            )
            step = hw.training.make_bilevel_step(
                _bilevel_cases.quadratics, optimizer, method, inner_optimizer=inner
            )
            state = hw.training.init_bilevel_state(["a", "b"], theta, optimizer, method)
            _, info = jax.jit(step)(state, (train, valid))
            moved = theta - rate * sum(
                w * (theta - train[n]) for n, w in weights.items()
            )
            toward = sum(moved - t for t in valid.values())
            for n in weights:
                want = -rate * np.dot(theta - train[n], toward)
                # the differences of values near 10 are in float32
                np.testing.assert_allclose(info.slopes[n], want, rtol=2e-3)
                half = np.sum(np.square(moved - valid[n])) / 2
                np.testing.assert_allclose(info.valid_values[n], half, rtol=1e-6)
