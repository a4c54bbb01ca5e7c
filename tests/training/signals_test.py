"""What a step tells balancers that ask for more than one look at the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

NAMES = ("a", "b")


def values_fn(p, x):
    h = jnp.tanh(x @ p["trunk"])
    return {
        "b": jnp.mean(jnp.abs(h @ p["b"] + 2.0)),
        "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
    }


def make_params():
    rng = np.random.default_rng(0)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 1)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


X = np.float32(np.random.default_rng(1).normal(size=(12, 3)))
all_values = jax.jit(values_fn)


@jax.jit
def head_gradients(params, x):
    """A plain `jax.grad` for each head."""
    return [jax.grad(lambda p, n=n: values_fn(p, x)[n])(params) for n in NAMES]


def head_rows(params, x):
    """These, and [H, P] those of the trunk in float64."""
    rows = head_gradients(params, x)
    return rows, np.stack([np.float64(r["trunk"]).ravel() for r in rows])


@pytest.mark.parametrize("batches", [2, 3])
def test_independent_batches(batches):
    """The gramian is between two parts, the weights act on the last."""
    params = make_params()
    balancer = hw.balancers.modo(0.5, 0.0, batches=batches)
    f = jax.jit(hw.balanced_grad(values_fn, balancer))
    grads, info, _ = f(params, balancer.init(NAMES), X)
    parts = [X[i::batches] for i in range(batches)]
    first, second = (head_rows(params, parts[i])[1] for i in (0, 1))
    np.testing.assert_allclose(info.gramian, first @ second.T, rtol=1e-4)
    weights = [float(info.weights[n]) for n in NAMES]
    moved = np.full(2, 0.5) - 0.5 * first @ second.T @ np.full(2, 0.5)
    expected = np.clip(
        moved + (1 - moved.sum()) / 2, 0, 1
    )  # two heads: one cut at most
    expected[0] = 1 - expected[1]
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    of_last, _ = head_rows(params, parts[-1])
    for leaf, got in grads.items():
        want = sum(w * g[leaf] for w, g in zip(weights, of_last, strict=True))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    for name in NAMES:  # the values are those of the whole batch
        want = all_values(params, X)[name]
        np.testing.assert_allclose(info.values[name], want, rtol=1e-5)


def test_independent_batches_bad_input():
    params, balancer = make_params(), hw.balancers.modo(batches=3)
    f = hw.balanced_grad(values_fn, balancer)
    with pytest.raises(ValueError, match=r"batches: expected .* divides .* got 3"):
        f(params, balancer.init(NAMES), X[:10])
    for options in ({"microbatches": 2}, {"wrt": "features"}):
        with pytest.raises(ValueError, match="3 batches goes with neither"):
            hw.balanced_grad(values_fn, balancer, **options)


def test_famo_sees_the_values_after_the_step():
    balancer, optimizer = hw.balancers.famo(), optax.sgd(0.1)
    step = jax.jit(hw.training.make_step(values_fn, optimizer, balancer))
    params = make_params()
    state = hw.training.init_state(NAMES, params, optimizer, balancer)
    of_balancer = balancer.init(NAMES)
    f = hw.balanced_grad(values_fn, balancer)

    @jax.jit
    def by_hand(params, of_balancer):
        grads, _, of_balancer = f(params, of_balancer, X)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        later = values_fn(params, X)
        after = jnp.stack([later[n] for n in NAMES])
        return params, balancer.after(after, of_balancer)

    for _ in range(3):
        state, _ = step(state, X)
        params, of_balancer = by_hand(params, of_balancer)
    for got, want in zip(
        jax.tree.leaves((state.params, state.balancer)),
        jax.tree.leaves((params, of_balancer)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    # It moved: without the second look the logits would stay where they are.
    before = jax.tree.leaves(balancer.init(NAMES))
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state.balancer), before, strict=True)
    )


def broken_fn(p, x):
    values = values_fn(p, x)
    return values | {"c": jnp.sum(p["trunk"]) * jnp.nan}


LOOKING = {
    "mgda": hw.balancers.mgda(),
    "upgrad": hw.balancers.upgrad(),
    "graddrop": hw.balancers.graddrop(),
}


def asked(values_fn, names, name, **options):
    """The balanced gradient, weights and presence."""
    balancer, key = LOOKING[name], jax.random.key(0)
    f = hw.balanced_grad(values_fn, balancer, **options)

    @jax.jit
    def run(params):
        grads, info, _ = f(params, balancer.init(names), X, key=key)
        return grads, info.weights, info.present

    return jax.tree.map(np.asarray, run(make_params()))


@functools.cache
def without_it(name, private):
    return asked(values_fn, NAMES, name, private=private)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("private", ["weighted", "own"])
@pytest.mark.parametrize("name", LOOKING)
def test_a_head_with_a_broken_gradient_counts_as_absent(name, private, stored):
    if LOOKING[name].needs == "grads" and not stored:
        pytest.skip("its gradients are kept in any case")
    grads, weights, present = asked(
        broken_fn, [*NAMES, "c"], name, private=private, stored=stored
    )
    assert present == {"a": True, "b": True, "c": False}
    assert weights["c"] == 0
    want, alone, _ = without_it(name, private)
    for head in NAMES:
        np.testing.assert_allclose(weights[head], alone[head], rtol=1e-4)
    for leaf in want:
        np.testing.assert_allclose(grads[leaf], want[leaf], rtol=1e-4, atol=1e-6)


def test_static_weights_do_not_hide_it():
    """A user who chose the weights sees that a loss diverged, watched or not."""
    for contributions in (False, True):
        balancer, optimizer = hw.balancers.equal(), optax.sgd(0.1)
        step = hw.training.make_step(
            broken_fn, optimizer, balancer, contributions=contributions
        )
        state = hw.training.init_state(
            [*NAMES, "c"], make_params(), optimizer, balancer
        )
        state, info = jax.jit(step)(state, X)
        assert np.isnan(info.grad_norm)
        assert all(map(bool, info.present.values()))


def test_every_passes_on_what_the_balancer_inside_asks_for():
    """Every second step: the gramian of two batches, the look after the step."""
    modo = hw.balancers.modo(0.5, 0.0)
    often, params = hw.balancers.every(2, modo), make_params()
    f, plain = (jax.jit(hw.balanced_grad(values_fn, b)) for b in (often, modo))
    state = often.init(NAMES)
    _, info, state = f(params, state, X)
    _, alone, _ = plain(params, modo.init(NAMES), X)
    np.testing.assert_allclose(info.gramian, alone.gramian, rtol=1e-5)
    _, info, _ = f(params, state, X)
    assert np.isnan(info.gramian).all()
    for name in NAMES:
        np.testing.assert_allclose(info.weights[name], alone.weights[name], rtol=1e-5)

    famo, optimizer = hw.balancers.every(2, hw.balancers.famo()), optax.sgd(0.1)
    step = jax.jit(hw.training.make_step(values_fn, optimizer, famo))
    states = [hw.training.init_state(NAMES, params, optimizer, famo)]
    for _ in range(3):
        states.append(step(states[-1], X)[0])
    leaves = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(s.balancer.inner)])
        for s in states
    ]
    assert not np.array_equal(leaves[0], leaves[1])  # due: it looked and learned
    np.testing.assert_array_equal(leaves[1], leaves[2])  # not due
    assert not np.array_equal(leaves[2], leaves[3])
