"""EPO and PMGDA against float64 versions, and on a problem with a known front."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import headwise as hw

NAMES = ("a", "b", "c")
MAKE = {"epo": hw.balancers.epo, "pmgda": hw.balancers.pmgda}


def solve(objective, matrix, bound, free=()):
    keep = np.isfinite(bound)
    limits = [(None if i in free else 0, None) for i in range(len(objective))]
    one = np.ones(len(objective))
    one[list(free)] = 0
    program = optimize.linprog(
        -objective,
        matrix[keep],
        bound[keep],
        one[None],
        [1.0],
        limits,
        method="highs",
    )
    assert program.status == 0
    return program.x


def epo(gram, values, r, epsilon=1e-4):
    """Mahapatra and Rajan, algorithm 1."""
    h = len(values)
    r = r / r.mean()
    share = r * values / np.sum(r * values)
    mu = np.sum(share * np.log(share * h))
    a = r * (np.log(share * h) - mu)
    along = gram @ a
    if mu > epsilon:
        floor = np.zeros(h)
        if (along > 0).any():
            floor = np.where(along > 0, -np.inf, along)
            floor[np.argmax(r * values)] = 0.0
        return solve(along, -gram, -floor)
    matrix = np.concatenate([-gram, -along[None]])
    bound = np.append(np.zeros(h), -min(along.max(), 0.0))
    return solve(gram.sum(axis=0), matrix, bound)


def pmgda(gram, values, p, sigma=0.95):
    """Zhang et al., equations 18 and 20, off the ray; in units of the mean gradient."""
    h = len(values)
    ray = p / np.linalg.norm(p)
    off = values - values @ ray * ray
    slope = off / np.linalg.norm(off)
    rows = np.concatenate([np.eye(h), slope[None]])
    every = rows @ gram @ rows.T
    lengths = np.sqrt(np.diag(every))
    onto = every / lengths
    matrix = np.concatenate([-onto, np.append(np.ones(h), 0.0)[:, None]], axis=1)
    bound = np.append(np.zeros(h), -sigma * lengths[-1])
    x = solve(np.append(np.zeros(h + 1), 1.0), matrix, bound, free=(h + 1,))
    mu = x[:-1] / lengths
    return lengths[:-1].mean() * (mu[:-1] + mu[-1] * slope)


def problem(seed, heads=3, near=None):
    """A gramian, values and preferences; values near the ray of preferences."""
    rng = np.random.default_rng([seed, heads])
    jacobian = rng.normal(size=(heads, heads + 2))
    values, p = rng.uniform(0.2, 3.0, heads), rng.uniform(0.2, 3.0, heads)
    if near is not None:
        values = near(p) * (1 + 1e-3 * rng.normal(size=heads))
    return jacobian @ jacobian.T, values, p


# The preferences are in the state: one program for each number of heads.
UPDATES = {name: jax.jit(make().update) for name, make in MAKE.items()}


def answer(name, gram, values, p):
    names = [f"h{i}" for i in range(len(values))]
    state = MAKE[name](dict(zip(names, map(float, p)))).init(names)
    signals = hw.Signals(
        jnp.asarray(values, jnp.float32), jnp.asarray(gram, jnp.float32)
    )
    return np.asarray(UPDATES[name](signals, state)[0].weights)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", MAKE)
def test_off_the_ray(name, seed):
    gram, values, p = problem(seed, heads=2 + seed % 3)
    want = {"epo": epo, "pmgda": pmgda}[name](gram, values, p)
    np.testing.assert_allclose(answer(name, gram, values, p), want, atol=2e-3)


@pytest.mark.parametrize("seed", range(8))
def test_epo_on_the_ray_descends(seed):
    gram, values, p = problem(seed, near=lambda p: 1 / p)
    got = answer("epo", gram, values, p)
    np.testing.assert_allclose(got, epo(gram, values, p), atol=2e-3)
    assert (gram @ got >= -1e-4).all()


@pytest.mark.parametrize("seed", range(4))
def test_pmgda_on_the_ray_is_mgda(seed):
    gram, values, p = problem(seed, near=lambda p: p)
    want = hw.solvers.min_norm(jnp.asarray(gram, jnp.float32))
    np.testing.assert_allclose(answer("pmgda", gram, values, p), want, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e3, 1e8])
@pytest.mark.parametrize("name", MAKE)
def test_units_change_nothing(name, unit):
    gram, values, p = problem(1)
    want = answer(name, gram, values, p)
    for got in (
        answer(name, gram * unit**2, values, p),
        answer(name, gram, values * unit, p),
        answer(name, gram, values, p * unit),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def values_fn(p):
    """Two quadratics; the front is the way from one minimum to the other."""
    one = jnp.array([1.0, 0.5])
    return {
        "a": jnp.sum(jnp.square(p - one)),
        "b": jnp.sum(jnp.square(p + one)),
    }


def front(ratio):
    """Values (a, b) on the front with a = ratio b: |2 one|² (1 - t)² and t²."""
    t = 1 / (1 + np.sqrt(ratio))
    return 5.0 * np.array([(1 - t) ** 2, t**2])


@functools.cache
def descend(name):
    """(params, state) -> params after 600 steps; the state has the preferences."""
    f = hw.balanced_grad(values_fn, MAKE[name]())

    @jax.jit
    def run(params, state):
        def step(carry, rate):
            params, state = carry
            grads, info, state = f(params, state)
            return (params - rate * grads, state), info.values

        rates = 0.05 * jnp.linspace(1.0, 0.02, 600)
        return jax.lax.scan(step, (params, state), rates)[0][0]

    return run


@pytest.mark.parametrize("part", [0.2, 0.4, 0.5, 0.8])
@pytest.mark.parametrize("name", MAKE)
def test_reaches_the_preferred_point_of_the_front(name, part):
    """EPO: r value equal. PMGDA: values along p."""
    p = np.array([part, 1 - part])
    ratio = p[1] / p[0] if name == "epo" else p[0] / p[1]
    state = MAKE[name](dict(zip("ab", map(float, p)))).init(["a", "b"])
    # EPO is drawn to a's own minimum where all gradients agree: see its docstring.
    agreeing = [[2.0, 2.0]] if name == "pmgda" else []
    for start in ([0.5, -1.5], [-1.0, 1.0], [-0.5, 1.5], *agreeing):
        end = values_fn(descend(name)(jnp.array(start), state))
        got = np.array([end["a"], end["b"]])
        np.testing.assert_allclose(got, front(ratio), rtol=0.05, atol=0.03)


def test_epo_where_all_gradients_agree():
    """The same weights from the float64 version: the method, not its rounding."""
    p = np.array([2.0, 2.0])
    one = np.array([1.0, 0.5])
    values = np.array([np.sum((p - one) ** 2), np.sum((p + one) ** 2)])
    jacobian = np.stack([2 * (p - one), 2 * (p + one)])
    got = answer("epo", jacobian @ jacobian.T, values, np.ones(2))
    np.testing.assert_allclose(got, [1.0, 0.0], atol=1e-6)
    want = epo(jacobian @ jacobian.T, values, np.ones(2))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
def test_absent_and_broken_heads_do_not_count(name):
    gram, values, p = problem(3)
    state = MAKE[name](dict(zip(NAMES, map(float, p)))).init(NAMES)
    signals = hw.Signals(
        jnp.asarray(values, jnp.float32), jnp.asarray(gram, jnp.float32)
    )
    want = answer(name, gram[:2, :2], values[:2], p[:2])
    absent = signals._replace(present=jnp.array([True, True, False]))
    broken = signals._replace(values=jnp.array([*values[:2], np.inf], jnp.float32))
    for shown in (absent, broken):
        decision, _ = UPDATES[name](shown, state)
        np.testing.assert_allclose(decision.weights[:2], want, rtol=1e-4, atol=1e-5)
        assert decision.weights[2] == 0


@pytest.mark.parametrize("name", MAKE)
def test_preferences_are_data(name):
    """One program for many preferences."""
    gram, values, _ = problem(5)
    balancer = MAKE[name]()
    state = balancer.init(NAMES)
    many = np.random.default_rng(0).uniform(0.5, 2.0, size=(4, 3)).astype(np.float32)
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), state)
    states = states._replace(preferences=jnp.asarray(many))
    signals = hw.Signals(
        jnp.asarray(values, jnp.float32), jnp.asarray(gram, jnp.float32)
    )
    got = jax.jit(jax.vmap(lambda s: balancer.update(signals, s)[0].weights))(states)
    want = np.stack([answer(name, gram, values, p) for p in many])
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MAKE)
def test_misuse_is_named(name):
    with pytest.raises(ValueError, match=r"preferences\['b'\]: expected a positive"):
        MAKE[name]({"a": 1.0, "b": 0.0})
    with pytest.raises(TypeError, match="preferences: expected a dict"):
        MAKE[name]([1.0, 1.0])
    with pytest.raises(ValueError, match=r"preferences: .*missing \['b'\]"):
        MAKE[name]({"a": 1.0}).init(["a", "b"])


def test_numbers_out_of_range_are_named():
    with pytest.raises(ValueError, match="epsilon: expected a number >= 0"):
        hw.balancers.epo(epsilon=-1.0)
    with pytest.raises(ValueError, match=r"sigma: expected a number in \(0, 1\]"):
        hw.balancers.pmgda(sigma=1.5)
    with pytest.raises(ValueError, match="tolerance: expected a number >= 0"):
        hw.balancers.pmgda(tolerance=-1.0)
