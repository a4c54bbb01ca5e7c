"""Heads that share nothing: each linked group is a problem of its own, one alone none.

Numbers by hand, the ways through the model, absent and broken heads, what is refused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.training import _components
from headwise.training import _layout
from tests.training import _apart

NAMES, OF_ONE, X = _apart.NAMES, _apart.OF_ONE, _apart.X
one, all_of_them = _apart.one, _apart.all_of_them
make_params, close = _apart.make_params, _apart.close
B = hw.balancers


# Linear heads, whose gradients are their coefficients; two groups and two alone.
LINEAR = {
    "a1": ("p", (1.0, 0.0)),
    "a2": ("p", (0.0, 2.0)),
    "b1": ("q", (3.0, 0.0)),
    "b2": ("q", (0.0, 4.0)),
    "c": ("r", (5.0, 0.0)),
    "d": (None, ()),  # moves nothing
}
POINT = {name: jnp.ones(2) for name in "pqr"}


def linear(p, x):
    return {
        n: jnp.sum(p[at] * jnp.array(g)) * x + 9.0 if at else 1.0 + 0.0 * x
        for n, (at, g) in LINEAR.items()
    }


BY_HAND = {
    # Of orthogonal gradients: w ~ 1 / |g|², 1 / |g|.
    "mgda": [0.8, 0.2, 16 / 25, 9 / 25],
    "imtl_g": [2 / 3, 1 / 3, 4 / 7, 3 / 7],
    # Means of projections, which change nothing: 1 / 2 each.
    "upgrad": [0.5] * 4,
    # Unit gradients added, as long as the sum of the projections: (|g| + |g'|) / 2.
    "config": [3 / 2, 3 / 4, 7 / 6, 7 / 8],
    # w_h = 1 / (g_h w_h g_h).
    "fairgrad": [1.0, 0.5, 1 / 3, 1 / 4],
    # As long as the shorter one, orthogonal: σ / |g|, mean 1 / 2.
    "aligned_mtl": [1 / 2, 1 / 4, 1 / 2, 3 / 8],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    balancer = getattr(B, name)()
    names = sorted(LINEAR)
    f = hw.balanced_grad(linear, balancer)
    state = balancer.init(names, POINT)
    # vmap: twice as long gradients, then those by hand.
    grads, info, _ = jax.jit(jax.vmap(f, in_axes=(None, None, 0)))(
        POINT, state, jnp.array([2.0, 1.0])
    )
    weights = np.stack([info.weights[n][1] for n in names])
    np.testing.assert_allclose(weights, [*BY_HAND[name], 1.0, 1.0], rtol=2e-5)
    for at, rows in {"p": (0, 1), "q": (2, 3), "r": (4,)}.items():
        want = sum(weights[h] * np.array(LINEAR[names[h]][1]) for h in rows)
        np.testing.assert_allclose(grads[at][1], want, rtol=2e-5)
    squares = np.array([1.0, 4.0, 9.0, 16.0, 25.0, 0.0])
    np.testing.assert_allclose(info.gramian[1], np.diag(squares))
    assert all(here.all() for here in info.present.values())
    assert info.conflicts[1] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"stored": False},
        {"private": "own"},
        {"private": "own", "stored": False},
        {"wrt": "features"},
        {"wrt": lambda path: path.endswith("t")},
        {"microbatches": 2},
    ],
    ids=lambda options: "-".join(options),
)
def test_in_every_way_through_the_model(options):
    balancer, params = B.imtl_g(), make_params()
    f = jax.jit(hw.balanced_grad(all_of_them, balancer, **options))
    grads, info, _ = f(params, balancer.init(NAMES), X)
    alone = jax.jit(hw.balanced_grad(one, balancer, **options))
    for g in "12":
        want, want_info, _ = alone(params[g], balancer.init(OF_ONE), X)
        close([info.weights[g + n] for n in OF_ONE], [*want_info.weights.values()])
        close(grads[g], want)
    plain = jax.grad(lambda p: all_of_them(p, X)["3b"])(params)
    assert info.weights["3b"] == 1.0
    close(grads["3"], plain["3"])


@pytest.mark.parametrize("name", ["mgda", "moco"])
def test_absent_heads(name):
    """One of a group, a whole group, the head alone: the others go on as they were."""
    params, balancer = make_params(), getattr(B, name)()
    state, start = balancer.init(NAMES, params), balancer.init(OF_ONE, params["1"])
    f = jax.jit(hw.balanced_grad(all_of_them, balancer))
    by_itself = jax.jit(hw.balanced_grad(one, balancer))
    for here in ([1, 0, 1, 1, 1], [1, 1, 0, 0, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]):
        here = np.array(here, bool)
        grads, info, new = f(params, state, X, present=jnp.array(here))
        for g in range(2):
            mine = here[2 * g : 2 * g + 2]
            want, alone, _ = by_itself(
                params[str(g + 1)], start, X, present=jnp.array(mine)
            )
            got = [info.weights[str(g + 1) + n] for n in OF_ONE]
            close(got, [*alone.weights.values()])
            close(grads[str(g + 1)], want)
        assert info.weights["3b"] == here[4]
        assert bool(jnp.any(grads["3"]["w"] != 0)) == here[4]
        np.testing.assert_array_equal([*info.present.values()], here)
        if name == "moco":
            np.testing.assert_array_equal(new.counts, here * [1, 1, 1, 1, 0])


@pytest.mark.parametrize("stored", [True, False])
def test_a_broken_head_alone_is_absent(stored):
    """Nobody shares its parameters: its own gradient tells."""

    def broken(p, x):
        return all_of_them(p, x) | {"3b": jnp.sum(jnp.sqrt(p["3"]["w"] * 0.0))}

    balancer, params = B.imtl_g(), make_params()
    f, g = (
        jax.jit(hw.balanced_grad(v, balancer, stored=stored))
        for v in (broken, all_of_them)
    )
    grads, info, _ = f(params, balancer.init(NAMES), X)
    want, want_info, _ = g(params, balancer.init(NAMES), X)
    assert not info.present["3b"]
    assert info.weights["3b"] == 0.0
    np.testing.assert_array_equal(grads["3"]["w"], 0.0)
    close([grads["1"], grads["2"]], [want["1"], want["2"]])
    close(list(info.weights.values())[:4], list(want_info.weights.values())[:4])


def test_fallback_asks_the_other_about_one_group_only():
    balancer = B.fallback(B.mgda(), B.constant(dict.fromkeys(NAMES, 7.0)))
    f = jax.jit(hw.balanced_grad(all_of_them, balancer))
    state, params = balancer.init(NAMES), make_params()
    _, whole, _ = f(params, state, X)
    _, part_of_it, _ = f(
        params, state, X, present=jnp.array([True, False] + [True] * 3)
    )
    assert [float(part_of_it.weights[n]) for n in ("1a", "1c")] == [7.0, 0.0]
    for name in ("2a", "2c", "3b"):
        assert part_of_it.weights[name] == whole.weights[name]
    assert all(w <= 1.0 for w in whole.weights.values())


def test_values_alone_are_not_touched():
    balancer = B.gls()
    f = jax.jit(hw.balanced_grad(all_of_them, balancer, head_grads=True))
    _, info, _ = f(make_params(), balancer.init(NAMES), X)
    values = np.array([*info.values.values()])
    want = np.exp(np.mean(np.log(values))) / values / len(values)
    np.testing.assert_allclose([*info.weights.values()], want, rtol=1e-4)


def test_what_stays_as_it_is():
    """One group of all heads, one head alone in the model, values alone."""
    linked = _layout.Layout([[True, True], [True, False]], [True, False])
    single = _layout.Layout([[True, True]], [True, True])
    unlinked = _layout.Layout([[True, False], [False, True]], [True, True])
    params = {"x": 0.0, "y": 0.0}
    for layout, balancer, same in (
        (linked, B.mgda(), True),
        (single, B.mgda(), True),
        (unlinked, B.equal(), True),
        (unlinked, B.mgda(), False),
        (linked._replace(over=[False, True]), B.mgda(), False),
        (linked._replace(over=[False, True]), B.graddrop(), True),
        (linked._replace(over="features"), B.mgda(), True),
    ):
        names = ("a", "b")[: len(layout.reached)]
        got = _components.apart(balancer, names, lambda x=layout: x, params)
        assert (got is balancer) == same


@pytest.mark.parametrize(
    ("reached", "over", "groups"),
    [
        ([], [], []),
        (["1"], "1", [(0,)]),
        (["10", "01"], "11", [(0,), (1,)]),
        (["10", "11", "01"], "11", [(0, 1, 2)]),  # linked through the second
        (["10", "11", "01"], "10", [(0, 1), (2,)]),  # as far as the gramian goes
        (["00", "10", "10"], "11", [(0,), (1, 2)]),  # one moves nothing
        (["100", "010", "001", "110"], "111", [(0, 1, 3), (2,)]),
        (["1001", "0110", "0010", "0001"], "1111", [(0, 3), (1, 2)]),
    ],
)
def test_connected(reached, over, groups):
    flags = [[c == "1" for c in row] for row in [*reached, over]]
    assert _components.connected(flags[:-1], flags[-1]) == groups


def test_what_cannot_be_told_apart_is_named():
    def running(shape):
        def update(signals, state):
            here = B.presence(signals)
            return B.Decision(here * 1.0), state

        return B.Balancer(
            lambda names, params=None: jnp.zeros(shape), update, "gramian"
        )

    def call(balancer, values_fn=all_of_them, params=None):
        params = make_params() if params is None else params
        names = sorted(jax.eval_shape(values_fn, params, X))
        f = hw.balanced_grad(values_fn, balancer)
        return jax.eval_shape(f, params, balancer.init(names), X)

    expected = r"balancer: .*leading axis.* 5 heads, got float32 of shape \(3,\)"
    with pytest.raises(ValueError, match=expected + r".*\['1a', '1c'\] and \['2a'"):
        call(running((3,)))
    call(running((5, 3)))
    call(running(()))
    # One group, and a head alone: there is nothing to put together.
    call(
        running((3,)),
        lambda p, x: {n: v for n, v in all_of_them(p, x).items() if n[0] != "2"},
    )
    with pytest.raises(ValueError, match=r"balancer: .*after the step.*'1c'\] and \["):
        call(B.fallback(B.mgda(), B.famo()))
    directed = running(())._replace(
        update=lambda signals, state: (B.Decision(jnp.ones(5), make_params()), state)
    )
    with pytest.raises(ValueError, match=r"balancer: expected weights .* a direction"):
        call(directed)


def test_a_step_of_an_actor_and_a_critic():
    """The critic goes to its optimum, the actor as it does alone."""

    def actor(p, x):
        logits = jax.nn.log_softmax(x @ p["pi"])
        entropy = jnp.mean(jnp.sum(jnp.exp(logits) * logits, axis=-1))
        return {"policy": -jnp.mean(logits[:, 0]), "entropy": entropy}

    def both(p, x):
        return actor(p, x) | {"value": jnp.mean(jnp.square(x @ p["v"] - 3.0))}

    sgd, balancer = optax.sgd(0.1), B.imtl_g()
    params = {"pi": jnp.ones((5, 3)).at[0, 0].set(2.0), "v": jnp.ones(5)}
    names = ("entropy", "policy", "value")
    state = hw.training.init_state(names, params, sgd, balancer)
    alone = hw.training.init_state(names[:2], {"pi": params["pi"]}, sgd, balancer)
    step = jax.jit(hw.training.make_step(both, sgd, balancer))
    step_alone = jax.jit(hw.training.make_step(actor, sgd, balancer))
    first = None
    for _ in range(20):
        state, info = step(state, X)
        alone, _ = step_alone(alone, X)
        first = info.values["value"] if first is None else first
    close(state.params["pi"], alone.params["pi"])
    assert info.values["value"] < first / 2
    assert info.conflicts >= 0
