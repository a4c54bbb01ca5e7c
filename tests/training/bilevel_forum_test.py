"""FORUM: its direction in closed form, its shares without a duality gap."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.training import _bilevel_forum


def test_forum_direction_in_closed_form():
    """One head: ν makes <∇q, d> = phi |∇q|² where the plain gradient falls short."""
    theta = jnp.array([1.0, 2.0])
    train, valid = {"a": jnp.array([3.0, 2.0])}, {"a": jnp.array([0.0, 1.0])}

    def values_fn(params, batch):
        return {"a": jnp.sum(jnp.square(params - batch["a"])) / 2}

    q, g = np.array([-2.0, 0.0]), np.array([1.0, 1.0])
    optimizer = optax.sgd(1.0)
    for normalized in (False, True):
        method = hw.training.forum(0.5, normalized=normalized)
        step = hw.training.make_bilevel_step(values_fn, optimizer, method)
        state = hw.training.init_bilevel_state(["a"], theta, optimizer, method)
        state, info = jax.jit(step)(state, (train, valid))
        d = g / np.linalg.norm(g) if normalized else g
        d = d + (0.5 - d @ q / (q @ q)) * q
        np.testing.assert_allclose(d @ q, 0.5 * q @ q)
        np.testing.assert_allclose(state.params, theta - d, rtol=1e-5)
        assert info.shares["a"] == 1
        assert info.slopes["a"] == 0


shares_under_constraint = jax.jit(_bilevel_forum.shares_under_constraint)


def primal(rows, q, phi, direction):
    """What `forum` maximises, and whether its constraint holds."""
    level = np.min(rows @ direction) - direction @ direction / 2
    return level, direction @ q - phi * q @ q


@pytest.mark.parametrize("phi", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(6))
def test_forum_shares_have_no_duality_gap(seed, phi):
    rng = np.random.default_rng(seed)
    heads, size = (2, 8) if seed < 3 else (4, 3)  # more heads than dimensions too
    rows, q = rng.normal(size=(heads, size)), rng.normal(size=size) * 10.0 ** (seed - 2)
    with jax.enable_x64(True):
        shares = shares_under_constraint(
            jnp.asarray(rows @ rows.T), rows @ q, q @ q, phi, jnp.ones(heads, bool)
        )
    shares = np.asarray(shares)
    nu = max(phi - shares @ rows @ q / (q @ q), 0.0)
    d = shares @ rows + nu * q
    np.testing.assert_allclose(shares.sum(), 1.0)
    assert shares.min() >= 0
    level, slack = primal(rows, q, phi, d)
    dual = d @ d / 2 - nu * phi * q @ q
    assert slack > -1e-8 * (1 + q @ q)
    np.testing.assert_allclose(level, dual, rtol=1e-6, atol=1e-8)
    with np.errstate(all="raise"):
        single = shares_under_constraint(
            jnp.asarray(rows @ rows.T, jnp.float32),
            jnp.asarray(rows @ q, jnp.float32),
            jnp.asarray(q @ q, jnp.float32),
            phi,
            jnp.ones(heads, bool),
        )
    nu = max(phi - single @ rows @ q / (q @ q), 0.0)
    d = np.float64(single) @ rows + float(nu) * q
    np.testing.assert_allclose(primal(rows, q, phi, d)[0], level, rtol=1e-2, atol=1e-2)


def test_forum_without_a_constraint_is_min_norm():
    rows = jnp.array([[3.0, 1.0], [-2.0, 1.0], [0.0, 5.0]])
    gram = rows @ rows.T
    for present in ([True, True, True], [True, False, True]):
        flags = jnp.array(present)
        got = shares_under_constraint(gram, jnp.zeros(3), jnp.zeros(()), 0.1, flags)
        want = jax.jit(hw.solvers.min_norm)(gram, flags)
        np.testing.assert_allclose(got, want, atol=1e-4)
