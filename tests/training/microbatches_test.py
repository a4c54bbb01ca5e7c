"""Microbatches: models with a state, one weighted pass, and updates now and then."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests import _compiled

B, T = hw.balancers, hw.training
NAMES = ("a", "b")
PARTS = 3
rng = np.random.default_rng(0)
SHAPES = {"trunk": (3, 4), "a": (4, 2), "b": (4, 2)}
PARAMS = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
X = jnp.asarray(rng.normal(size=(12, 3)), jnp.float32)
REST = {"mean": jnp.zeros((1, 3)), "calls": jnp.int32(0)}


def stateful(params, rest, x, key):
    """Dropout, and a running mean that is used after it moved."""
    mean = 0.9 * rest["mean"] + 0.1 * jnp.mean(x, 0, keepdims=True)
    keep = jax.random.bernoulli(key, 0.5, x.shape)
    h = jnp.tanh(jnp.where(keep, x - mean, 0.0) @ params["trunk"])
    values = {
        "a": jnp.mean((h @ params["a"] - 1) ** 2),
        "b": jnp.mean(jnp.abs(h @ params["b"] + 1)),
    }
    return values, {"mean": mean, "calls": rest["calls"] + 1}


@jax.jit
def by_hand(params, key):
    """One part after the other, each with a key of its own."""
    rest, total = REST, dict.fromkeys(NAMES, 0.0)
    for i in range(PARTS):
        mine = jax.random.fold_in(key, i)
        values, rest = stateful(params, rest, X[i::PARTS], mine)
        total = {n: total[n] + values[n] / PARTS for n in NAMES}
    return total, rest


def close(got, want, rtol=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), got, want
    )


def start(balancer, optimizer):
    return T.init_state(NAMES, PARAMS, optimizer, balancer, REST)


@pytest.mark.parametrize("balancer", [B.uncertainty(), B.imtl_g()])
def test_a_stateful_model_goes_from_part_to_part(balancer):
    """By one weighted pass, and by head gradients."""
    sgd = optax.sgd(0.1)
    step = T.make_step(stateful, sgd, balancer, stateful=True, microbatches=PARTS)
    new, info = jax.jit(step)(start(balancer, sgd), X)
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[0]
    values, rest = by_hand(PARAMS, key)
    close((dict(info.values), new.rest), (values, rest))

    def total(params):
        values, _ = by_hand(params, key)
        return sum(info.weights[n] * values[n] for n in NAMES)

    slopes = jax.jit(jax.grad(total))(PARAMS)
    close(new.params, jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, slopes))


def test_independent_batches_hand_on_the_rest_too():
    balancer, sgd = B.modo(batches=3), optax.sgd(0.1)
    step = jax.jit(T.make_step(stateful, sgd, balancer, stateful=True))
    new, info = step(start(balancer, sgd), X)
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[0]
    close((dict(info.values), new.rest), by_hand(PARAMS, key))


def test_a_stateful_model_in_a_bilevel_step():
    method, sgd = T.moml(), optax.sgd(0.1)
    step = T.make_bilevel_step(stateful, sgd, method, stateful=True, microbatches=PARTS)
    state = T.init_bilevel_state(NAMES, PARAMS, sgd, method, REST)
    new, info = jax.jit(step)(state, (X, X))
    key = jax.random.split(jax.random.fold_in(state.key, 0))[0]
    close((dict(info.values), new.rest), by_hand(PARAMS, key))


KNOWN = jnp.asarray(rng.random(12) < 0.6).at[1::PARTS].set(False)


def ragged(params, batch):
    """A head that has labels for some examples, none of them in the second part."""
    x, known = batch
    h = jnp.tanh(x @ params["trunk"])
    count = jnp.sum(known, dtype=jnp.float32)
    errors = jnp.where(known, jnp.sum((h @ params["b"]) ** 2, 1), 0.0)
    b = jnp.sum(errors) / count  # NaN where nobody counts
    return hw.Means({"a": jnp.mean((h @ params["a"]) ** 2), "b": b}, {"b": count})


@pytest.mark.parametrize("private", ["weighted", "own"])
@pytest.mark.parametrize("balancer", [B.constant({"a": 2.0, "b": 0.5}), B.dwa()])
def test_one_weighted_pass_counts_what_there_is(balancer, private):
    def run(parts):
        f = hw.balanced_grad(ragged, balancer, private, microbatches=parts)
        grads, info, _ = jax.jit(f)(PARAMS, balancer.init(NAMES), (X, KNOWN))
        return grads, dict(info.values), info.values.counts, info.present

    close(run(PARTS), run(1))


def test_static_weights_cost_what_accumulation_by_hand_costs():
    """One forward and one backward pass, however many heads there are."""
    names = [f"h{i}" for i in range(6)]
    params = {"trunk": jnp.ones((32, 32)), "deep": jnp.ones((32, 32))}
    params |= {n: jnp.ones((32, 1)) for n in names}
    x = jnp.ones((64, 32))

    def values_fn(params, x):
        h = jnp.tanh(jnp.tanh(x @ params["trunk"]) @ params["deep"])
        return {n: jnp.mean((h @ params[n] - i) ** 2) for i, n in enumerate(names)}

    def total(params, part):
        return sum(values_fn(params, part).values())

    def by_hand(params, x):
        def add(sums, part):
            value, slopes = jax.value_and_grad(total)(params, part)
            return jax.tree.map(jnp.add, sums, slopes), value

        parts = jnp.swapaxes(x.reshape(-1, 4, 32), 0, 1)
        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)

    def flops(f):
        lowered = jax.jit(f).lower(params, x)
        return _compiled.as_users(lowered).cost_analysis()["flops"]

    balancer = B.equal()
    f = hw.balanced_grad(values_fn, balancer, microbatches=4)
    ours = flops(lambda p, x: f(p, balancer.init(names), x)[:2])
    assert ours < 1.1 * flops(by_hand)


@pytest.mark.parametrize(("every", "sampled"), [(4, [3, 7, 11]), (10, [3, 11])])
def test_contributions_wait_for_an_update(every, sampled):
    """`MultiSteps` moves in every fourth step: shares of nothing were 0 for ever."""
    optimizer = optax.MultiSteps(optax.sgd(0.1), 4).gradient_transformation()

    def values_fn(params, x):
        h = jnp.tanh(x @ params["trunk"])
        return {n: jnp.mean((h @ params[n] - 1) ** 2) for n in NAMES}

    step = T.make_step(values_fn, optimizer, contributions=every)
    state = T.init_state(NAMES, PARAMS, optimizer, B.equal())
    _, info = jax.jit(lambda s: jax.lax.scan(step, s, jnp.stack([X] * 12)))(state)
    shares = np.asarray(info.contributions.share).sum((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(shares)), sampled)
    np.testing.assert_allclose(shares[sampled], 3.0, rtol=1e-5)  # 1 a module
