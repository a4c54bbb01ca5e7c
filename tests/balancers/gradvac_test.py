"""Gradient vaccine: the memory, the edit and groups of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

NAMES = ("a", "b", "c")


def make_grads(seed=0, names=NAMES):
    rng = np.random.default_rng(seed)
    return {
        name: {
            "first": {"b": draw(rng, 2), "w": draw(rng, (2, 3))},
            "last": {"w": draw(rng, 4)},
        }
        for name in names
    }


def draw(rng, shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def surgery(rows, order, usual, beta):
    """On vectors, in float64, one head after the other."""
    rows, usual = np.float64(rows), usual.copy()
    parts = rows.copy()
    for i in range(len(rows)):
        for j in order[i]:
            if i == j:
                continue
            g = rows[j] / np.linalg.norm(rows[j])
            length = np.linalg.norm(parts[i])
            cosine, goal = parts[i] @ g / length, usual[i, j]
            if cosine < goal:
                sines = np.sqrt(1 - goal**2), np.sqrt(1 - cosine**2)
                parts[i] += length * (goal * sines[1] / sines[0] - cosine) * g
                after = parts[i] @ g / np.linalg.norm(parts[i])
                np.testing.assert_allclose(after, goal, atol=1e-12)
            usual[i, j] = (1 - beta) * goal + beta * cosine
    return parts.sum(axis=0), usual


def order_of(key, heads=3):
    return np.asarray(jnp.argsort(jax.random.uniform(key, (heads, heads)), axis=1))


@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_many_steps_on_vectors(beta):
    balancer = hw.balancers.gradvac(beta)
    update, state = jax.jit(balancer.update), balancer.init(NAMES)
    usual = np.zeros((3, 3))
    edited = 0
    for step in range(12):
        grads, key = make_grads(step), jax.random.key(step)
        rows = np.stack([flat(grads[name]) for name in NAMES])
        rows = rows + 0.15 * rows.sum(axis=0)  # alike, so that the usual is above 0
        signals = hw.balancers.Signals(jnp.ones(3), jnp.asarray(rows @ rows.T), key=key)
        decision, state = update(signals, state)
        expected, usual = surgery(rows, order_of(key), usual, beta)
        size = np.abs(decision.weights) @ np.linalg.norm(rows, axis=1)
        np.testing.assert_allclose(
            decision.weights @ rows, expected, rtol=0, atol=2e-6 * size
        )
        np.testing.assert_allclose(state.similarity[..., 0], usual, atol=1e-6)
        edited += not np.allclose(decision.weights, 1)
    assert edited > 2
    assert usual.max() > 0.01


def test_after_an_edit_the_cosine_is_the_usual_one():
    """Two heads: each is turned once, towards the other's own gradient."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2, 5))
    grams = np.float32(rows @ rows.swapaxes(1, 2))
    usual = rng.uniform(-0.9, 0.9, size=200)
    balancer = hw.balancers.gradvac()

    def parts(gram, usual):
        """What each head's own gradient becomes: the other is not turned."""
        added = []
        for i in range(2):
            goal = jnp.full((2, 2, 1), -1.0).at[i, 1 - i, 0].set(usual)
            signals = hw.balancers.Signals(jnp.ones(2), gram, key=jax.random.key(0))
            state = balancer.init(["a", "b"])._replace(similarity=goal)
            decision, _ = balancer.update(signals, state)
            added.append(decision.weights - jnp.eye(2)[1 - i])
        return jnp.stack(added)

    p = np.float64(jax.jit(jax.vmap(parts))(grams, np.float32(usual))) @ rows
    cosines = np.einsum("kip,kip->ki", p, rows[:, ::-1])
    cosines /= np.linalg.norm(p, axis=2) * np.linalg.norm(rows, axis=2)[:, ::-1]
    before = np.einsum("kp,kp->k", rows[:, 0], rows[:, 1])
    before /= np.prod(np.linalg.norm(rows, axis=2), axis=1)
    expected = np.maximum(before, usual)[:, None] * np.ones(2)
    np.testing.assert_allclose(cosines, expected, atol=2e-5)  # √(1 - ρ²) in float32
    assert 20 < np.sum(before < usual) < 180


@pytest.mark.parametrize(
    ("groups", "members"), [("leaf", [[0], [1], [2]]), ("layer", [[0, 1], [2]])]
)
def test_groups_are_treated_by_themselves(groups, members):
    """Steps of each group by hand, with the key it is given, are steps of the whole."""
    grads = make_grads()
    balancer = hw.balancers.gradvac(0.5, groups)
    assert balancer.needs == "grads"
    update, state = jax.jit(balancer.update), balancer.init(NAMES, grads["a"])
    whole = hw.balancers.gradvac(0.5)
    assert state.similarity.shape == (3, 3, len(members))
    states = [whole.init(NAMES) for _ in members]
    update_whole = jax.jit(whole.update)
    for step in range(4):
        grads, key = make_grads(step), jax.random.key(step)
        signals = hw.balancers.Signals(jnp.ones(3), grads=grads, key=key)
        decision, state = update(signals, state)
        leaves = [jax.tree.leaves(grads[name]) for name in NAMES]
        direction = jax.tree.leaves(decision.direction)
        keys = jax.random.split(key, len(members))
        shown = []
        for g, member in enumerate(members):
            rows = np.stack([flat([of_head[i] for i in member]) for of_head in leaves])
            gram = jnp.asarray(rows @ rows.T)
            alone = hw.balancers.Signals(jnp.ones(3), gram, key=keys[g])
            expected, states[g] = update_whole(alone, states[g])
            shown.append(expected.weights)
            got = flat([direction[i] for i in member])
            np.testing.assert_allclose(got, expected.weights @ rows, atol=2e-5)
            np.testing.assert_allclose(
                state.similarity[..., g], states[g].similarity[..., 0], atol=1e-6
            )
        np.testing.assert_allclose(decision.weights, np.mean(shown, axis=0), rtol=1e-5)


def test_one_leaf_is_the_whole():
    """Up to the order of visits, which two heads do not have."""
    grads = {n: {"w": g["first"]["w"]} for n, g in make_grads(3, ("a", "b")).items()}
    rows = np.stack([flat(g) for g in grads.values()])
    signals = hw.balancers.Signals(
        jnp.ones(2), jnp.asarray(rows @ rows.T), grads=grads, key=jax.random.key(0)
    )
    by_leaf = hw.balancers.gradvac(0.5, "leaf")
    whole = hw.balancers.gradvac(0.5)
    states = by_leaf.init(["a", "b"], grads["a"]), whole.init(["a", "b"])
    updates = jax.jit(by_leaf.update), jax.jit(whole.update)
    for _ in range(3):
        first, state = updates[0](signals, states[0])
        second, other = updates[1](signals, states[1])
        states = state, other
        np.testing.assert_allclose(first.weights, second.weights, rtol=1e-5)
        np.testing.assert_allclose(
            flat(first.direction), second.weights @ rows, atol=1e-5
        )
        np.testing.assert_allclose(state.similarity, other.similarity, atol=1e-6)


def test_an_absent_head_leaves_its_memory():
    balancer = hw.balancers.gradvac(0.5, "layer")
    grads = make_grads()
    state = balancer.init(NAMES, grads["a"])
    signals = hw.balancers.Signals(jnp.ones(3), grads=grads, key=jax.random.key(1))
    update = jax.jit(balancer.update)
    _, before = update(signals, state)
    grads = make_grads(1)
    grads["b"] = jax.tree.map(lambda g: g * jnp.nan, grads["b"])
    decision, after = update(signals._replace(grads=grads), before)
    np.testing.assert_array_equal(after.similarity[1], before.similarity[1])
    np.testing.assert_array_equal(after.similarity[:, 1], before.similarity[:, 1])
    assert (after.similarity[0, 2] != before.similarity[0, 2]).all()
    assert decision.weights[1] == 0
    assert np.isfinite(flat(decision.direction)).all()


def test_misuse_is_named():
    with pytest.raises(ValueError, match="groups"):
        hw.balancers.gradvac(groups="module")
    with pytest.raises(ValueError, match="gradvac: expected params in init"):
        hw.balancers.gradvac(groups="leaf").init(NAMES)
