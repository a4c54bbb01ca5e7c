"""`every`: refreshed now and then, a plain step in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

NAMES = ("a", "b")


def values_fn(p, x):
    h = jnp.tanh(x @ p["trunk"])
    return {
        "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
        "b": jnp.mean(jnp.abs(h @ p["b"] + 2.0)),
    }


def make_params():
    rng = np.random.default_rng(0)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 1)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5, 3)), jnp.float32)


def descend(balancer, params, xs):
    f = jax.jit(hw.balanced_grad(values_fn, balancer))
    state, seen = balancer.init(NAMES), []
    for x in xs:
        grads, info, state = f(params, state, x)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        seen.append((np.array(list(info.weights.values())), info, grads))
    return params, seen


def test_refreshes_are_those_of_the_balancer_alone():
    _, seen = descend(hw.balancers.every(3, hw.balancers.mgda()), make_params(), X)
    params, kept = make_params(), None
    mgda = hw.balancers.mgda()
    alone = jax.jit(hw.balanced_grad(values_fn, mgda))

    @jax.jit
    @jax.grad
    def total_grad(p, x, w):
        values = values_fn(p, x)
        return w[0] * values["a"] + w[1] * values["b"]

    for t, (weights, info, grads) in enumerate(seen):
        fresh = alone(params, mgda.init(NAMES), X[t])[1]
        if t % 3 == 0:
            kept = np.array(list(fresh.weights.values()))
            np.testing.assert_allclose(info.gramian, fresh.gramian, rtol=1e-4)
        else:
            assert np.isnan(info.gramian).all()
            assert np.isnan(info.conflicts)
        np.testing.assert_allclose(weights, kept, atol=1e-5)
        for name, expected in total_grad(params, X[t], kept).items():
            np.testing.assert_allclose(grads[name], expected, rtol=1e-3, atol=1e-5)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert not np.allclose(seen[0][0], seen[3][0], atol=1e-4)


def test_scan_and_vmap_equal_the_loop():
    balancer = hw.balancers.every(2, hw.balancers.mgda())
    f = hw.balanced_grad(values_fn, balancer)

    def run(params):
        def body(carry, x):
            params, state = carry
            grads, info, state = f(params, state, x)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
            return (params, state), jnp.stack(list(info.weights.values()))

        return jax.lax.scan(body, (params, balancer.init(NAMES)), X)[1]

    loop = np.stack([w for w, _, _ in descend(balancer, make_params(), X)[1]])
    np.testing.assert_allclose(jax.jit(run)(make_params()), loop, atol=1e-5)
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), make_params())
    together = jax.jit(jax.vmap(run))(many)
    np.testing.assert_allclose(together[0], loop, atol=1e-5)


def test_one_program_with_a_branch():
    balancer = hw.balancers.every(4, hw.balancers.mgda())
    f = hw.balanced_grad(values_fn, balancer)
    program = jax.make_jaxpr(f)(make_params(), balancer.init(NAMES), X[0])
    (branching,) = [e for e in program.jaxpr.eqns if e.primitive.name == "cond"]
    plain, gradients = (
        str(branch).count("dot_general") for branch in branching.params["branches"]
    )
    # One pass: two products in each private part, one for the trunk's weights.
    assert plain == 5
    assert gradients > plain


def test_absent_heads_have_weight_zero():
    balancer = hw.balancers.every(2, hw.balancers.mgda())
    f, state = jax.jit(hw.balanced_grad(values_fn, balancer)), balancer.init(NAMES)
    for x, there, expected in (
        (X[0], True, False),
        (X[1], False, True),
        (X[2], False, True),
        (X[3], True, True),  # absent at the refresh: back with the next one
        (X[4], True, False),
    ):
        _, info, state = f(make_params(), state, x, present=jnp.array([True, there]))
        assert bool(info.weights["b"] == 0) == expected


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"k: expected a positive int, got 0"):
        hw.balancers.every(0, hw.balancers.mgda())
    names = ["a", "b"]
    balancer = hw.balancers.every(2, hw.balancers.graddrop())
    f = hw.balanced_grad(values_fn, balancer)
    with pytest.raises(ValueError, match=r"every: expected a balancer .* weights"):
        jax.eval_shape(
            f, make_params(), balancer.init(names), X[0], key=jax.random.key(0)
        )
