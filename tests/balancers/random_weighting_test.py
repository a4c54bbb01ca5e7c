"""Random weights: their distributions, over many keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

B = hw.balancers
NAMES = ("a", "b", "c")
DISTRIBUTIONS = ["normal", "uniform", "dirichlet", "bernoulli", "constrained_bernoulli"]


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


DRAWS = 20000


@functools.cache
def program(distribution):
    """present [3] -> weights [DRAWS, 3], each of its own key."""
    balancer = B.random_weighting(distribution)
    state = balancer.init(NAMES)

    def one(key, present):
        signals = hw.Signals(jnp.ones(3), key=key, present=present)
        return balancer.update(signals, state)[0].weights

    keys = jax.random.split(jax.random.key(7), DRAWS)
    return functools.partial(jax.jit(jax.vmap(one, (0, None))), keys)


def draw(distribution, present=(True, True, True)):
    return np.float64(program(distribution)(jnp.array(present)))


def reference_draws(distribution, heads):
    rng = np.random.default_rng(3)
    if distribution == "normal":
        return np.stack([softmax(x) for x in rng.normal(size=(DRAWS, heads))])
    if distribution == "uniform":
        return np.stack([softmax(x) for x in rng.uniform(size=(DRAWS, heads))])
    if distribution == "dirichlet":
        return rng.dirichlet(np.ones(heads), size=DRAWS)
    if distribution == "bernoulli":
        coins = rng.integers(0, 2, size=(2 * DRAWS, heads))
        coins = coins[coins.any(1)]
        return coins / coins.sum(1, keepdims=True)
    return np.eye(heads)[rng.integers(0, heads, size=DRAWS)]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_random_weights_have_the_moments_of_their_distribution(distribution):
    for present in ((True, True, True), (True, False, True)):
        weights = draw(distribution, present)
        here = np.array(present)
        assert (weights[:, ~here] == 0).all()
        weights = weights[:, here]
        heads = int(here.sum())
        np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
        assert (weights >= 0).all()
        expected = reference_draws(distribution, heads)
        # Five standard errors of a mean over 20000 draws, of both samples; heads are
        # exchangeable, so that each has mean 1 / H.
        error = 5 * weights.std(0) / np.sqrt(DRAWS)
        assert (np.abs(weights.mean(0) - 1 / heads) < error).all()
        for power in (2, 3):
            got, want = weights**power, (expected**power).mean()
            error = 10 * got.std(0) / np.sqrt(DRAWS)
            assert (np.abs(got.mean(0) - want) < error).all()
        products, want = weights[:, 0] * weights[:, 1], expected[:, 0] * expected[:, 1]
        error = 10 * products.std() / np.sqrt(DRAWS) + 1e-12
        assert abs(products.mean() - want.mean()) < error


def test_bernoulli_patterns_are_equally_likely():
    patterns = (draw("bernoulli") > 0) @ np.array([1, 2, 4])
    counts = np.bincount(patterns.astype(int), minlength=8)
    assert counts[0] == 0
    # Five standard deviations of a binomial count.
    expected = DRAWS / 7
    assert (np.abs(counts[1:] - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_no_head_and_one_head(distribution):
    np.testing.assert_array_equal(draw(distribution, (False, False, False)), 0.0)
    one = draw(distribution, (False, True, False))
    np.testing.assert_allclose(one, np.tile([0.0, 1.0, 0.0], (DRAWS, 1)), rtol=1e-6)


def test_same_key_same_weights():
    balancer = B.random_weighting()
    state = balancer.init(NAMES)
    first, second, third = (
        balancer.update(hw.Signals(jnp.ones(3), key=jax.random.key(k)), state)[0]
        for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.weights, second.weights)
    assert (first.weights != third.weights).all()


def test_unknown_distribution_is_named():
    words = r"distribution: expected one of \['normal', .*\], got 'gauss'"
    with pytest.raises(ValueError, match=words):
        B.random_weighting("gauss")
