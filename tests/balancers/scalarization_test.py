"""Scalarisations: weights against derivatives of formulas written in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

NAMES = ("a", "b", "c")
P = np.array([0.5, 2.0, 1.0])
Z = np.array([0.1, -0.2, 0.3])
PREFERENCES = dict(zip(NAMES, P.tolist()))
REFERENCE = dict(zip(NAMES, Z.tolist()))
VALUES = np.random.default_rng(0).uniform(0.2, 3.0, size=(20, 3))


def log_sum_exp(x):
    return np.max(x) + np.log(np.sum(np.exp(x - np.max(x))))


def pbi(v, p, z, theta=2.0):
    ray = p / np.linalg.norm(p)
    along = (v - z) @ ray
    return along + theta * np.linalg.norm(v - z - along * ray)


def cosmos(v, p, penalty=0.7):
    return p @ v - penalty * (p @ v) / np.linalg.norm(p) / np.linalg.norm(v)


U = np.full(3, 1 / 3)
B = hw.balancers

# The balancer, and the total that its weights are the derivatives of.
TOTALS = {
    "gls": (B.gls(), lambda v: np.prod(v) ** (1 / 3)),
    "gls, weighted": (
        B.gls(PREFERENCES),
        lambda v: np.exp(P @ np.log(v) / P.sum()),
    ),
    "tchebycheff": (
        B.tchebycheff(PREFERENCES, REFERENCE),
        lambda v: np.max(P * (v - Z)),
    ),
    "tchebycheff, modified": (
        B.tchebycheff(PREFERENCES, REFERENCE, modified=True),
        lambda v: np.max((v - Z) / P),
    ),
    "tchebycheff, uniform": (B.tchebycheff(), lambda v: np.max(v / 3)),
    "stch": (
        B.stch(0.3, PREFERENCES, REFERENCE),
        lambda v: 0.3 * log_sum_exp(P * (v - Z) / 0.3),
    ),
    "stch, uniform": (B.stch(0.1), lambda v: 0.1 * log_sum_exp(v / 3 / 0.1)),
    "stch_set": (B.stch_set(0.5), lambda v: 0.5 * log_sum_exp(v / 0.5)),
    "pbi": (B.pbi(2.0, PREFERENCES, REFERENCE), lambda v: pbi(v, P, Z)),
    "pbi, uniform": (B.pbi(2.0), lambda v: pbi(v, U, 0 * Z)),
    "cosmos": (B.cosmos(0.7, PREFERENCES), lambda v: cosmos(v, P)),
    "cosmos, uniform": (B.cosmos(0.7), lambda v: cosmos(v, U)),
    "p_norm": (
        B.p_norm(3.0, PREFERENCES),
        lambda v: np.sum((P * v) ** 3.0) ** (1 / 3.0),
    ),
    "p_norm, 1": (B.p_norm(1.0, PREFERENCES), lambda v: P @ v),
    "scalarization": (
        B.scalarization(lambda v, p, _: jnp.sum(p * jnp.sin(v)), PREFERENCES),
        lambda v: P @ np.sin(v),
    ),
}


def slopes(total, v, h=1e-5):
    """Central differences in float64, of error h²."""
    return np.array(
        [(total(v + h * e) - total(v - h * e)) / (2 * h) for e in np.eye(3)]
    )


@functools.cache
def compiled(balancer, names):
    """(rows of values [N, H], present [H]) -> weights [N, H]."""
    state = balancer.init(names)

    def one(row, present):
        return balancer.update(hw.Signals(row, present=present), state)[0].weights

    return jax.jit(jax.vmap(one, (0, None)))


def weights_of(balancer, values, present=None, names=NAMES):
    """Weights [N, H] of N rows of values; one program for up to 20 rows."""
    values = np.asarray(values, np.float32)
    present = np.ones(len(names), bool) if present is None else np.asarray(present)
    rows = values[np.arange(max(len(values), len(VALUES))) % len(values)]
    return np.asarray(compiled(balancer, names)(rows, present))[: len(values)]


@pytest.mark.parametrize("name", TOTALS)
def test_weights_are_the_derivatives(name):
    balancer, total = TOTALS[name]
    # Weights of size 1, in float32; smooth maxima divide their rounding by 0.1.
    expected = np.stack([slopes(total, v) for v in VALUES])
    np.testing.assert_allclose(
        weights_of(balancer, VALUES), expected, rtol=1e-5, atol=2e-6
    )


ONE_TO_FOUR = np.array([[1.0, 2.0, 4.0]])


@pytest.mark.parametrize(
    ("balancer", "values", "expected"),
    [
        # TorchJD, tests/unit/scalarization: GeometricMean([1, 2, 4]) = 2.
        (B.gls(), [1.0, 2.0, 4.0], 2.0),
        # TorchJD: PBI, theta 1, weights [1, 1], values [2, 0]: 2 sqrt(2).
        (B.pbi(1.0, {"a": 1, "b": 1}), [2.0, 0.0], 2 * np.sqrt(2)),
        # TorchJD: COSMOS, λ 0, weights [2, 1], values [3, 4]: 10.
        (B.cosmos(0.0, {"a": 2, "b": 1}), [3.0, 4.0], 10.0),
        # LibMOON: the 2-norm of [3, 4].
        (B.p_norm(2.0, {"a": 1, "b": 1}), [3.0, 4.0], 5.0),
    ],
)
def test_published_totals(balancer, values, expected):
    """These totals scale with the values, so that total = Σ weight · value (Euler)."""
    names = NAMES[: len(values)]
    weights = weights_of(balancer, [values], names=names)[0]
    np.testing.assert_allclose(weights @ np.array(values), expected, rtol=1e-6)


def test_published_total_of_stch():
    """TorchJD: STCH with μ = 1 is log 2 at [0, 0]: the integral of b's weight."""
    b = np.linspace(-60.0, 0.0, 1201)  # the total is 1e-13 at the start
    rows = np.stack([np.zeros_like(b), b], axis=1)
    weights = np.float64(weights_of(B.stch(1.0), rows, names=("a", "b"))[:, 1])
    area = np.sum((weights[1:] + weights[:-1]) / 2) * 0.05
    # The trapezoid rule is 3e-5 off at this step.
    np.testing.assert_allclose(area, np.log(2), rtol=5e-5)


def test_limits():
    worst = weights_of(B.tchebycheff(PREFERENCES), VALUES)
    # Where the two worst differ by 0.03 and more, exp(-0.03 / 0.001) is 1e-13.
    clear = np.sort(P * VALUES, axis=1)
    clear = clear[:, 2] - clear[:, 1] > 0.03
    soft = weights_of(B.stch(1e-3, PREFERENCES), VALUES)
    np.testing.assert_allclose(soft[clear], worst[clear], atol=1e-6)
    # (second / first)^1000, the ratio being at most 1 - 0.03 / 6.
    norm = weights_of(B.p_norm(3000.0, PREFERENCES), VALUES)
    np.testing.assert_allclose(norm[clear], worst[clear], atol=1e-3)
    smooth = weights_of(B.stch(1e6, PREFERENCES), VALUES)
    np.testing.assert_allclose(smooth, np.tile(P / 3, (20, 1)), rtol=1e-5)


def test_scales():
    gls = weights_of(B.gls(), VALUES)
    total = np.exp(np.mean(np.log(VALUES), axis=1))
    np.testing.assert_allclose(np.sum(gls * VALUES, axis=1), total, rtol=1e-6)
    # gls: the share of the total that a head has does not depend on its scale.
    scaled = VALUES * np.array([1e-8, 1.0, 1e12])
    np.testing.assert_allclose(
        weights_of(B.gls(), scaled) * scaled,
        np.tile(total[:, None] * 10 ** (4 / 3) / 3, 3),
        rtol=2e-5,
    )  # logs up to 28, rounded at 2e-6
    for balancer in (B.p_norm(3.0), B.pbi(2.0), B.tchebycheff()):
        one = weights_of(balancer, VALUES)
        for scale in (1e-10, 1e10):
            # pbi subtracts vectors, which rounds to 1e-6 of their size.
            np.testing.assert_allclose(
                weights_of(balancer, scale * VALUES), one, rtol=1e-5, atol=2e-6
            )
    np.testing.assert_allclose(
        weights_of(B.stch(0.1), VALUES).sum(1), np.full(20, 1 / 3), rtol=1e-6
    )
    np.testing.assert_allclose(
        weights_of(B.stch_set(0.1), VALUES).sum(1), np.ones(20), rtol=1e-6
    )


def test_ties_and_edges():
    ties = weights_of(B.tchebycheff(), [[1.0, 1.0, 0.5], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(ties, [[1 / 6, 1 / 6, 0], [1 / 9] * 3], rtol=1e-6)
    # On the ray there is no way back to it: the direction itself.
    on_ray = weights_of(B.pbi(5.0), [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(on_ray, np.full((2, 3), 3**-0.5), rtol=1e-6)
    none = weights_of(B.cosmos(5.0), [[0.0, 0.0, 0.0]])
    np.testing.assert_allclose(none, [[1 / 3] * 3], rtol=1e-6)
    edges = [[0.0, 0, 0], [1e-10, 0, 1], [-1, 0, 1], [1e30, 1e-30, 1], [-1e30] * 3]
    for name, (balancer, _) in TOTALS.items():
        assert np.isfinite(weights_of(balancer, edges)).all(), name
        absent = weights_of(balancer, edges, jnp.zeros(3, bool))
        np.testing.assert_array_equal(absent, 0.0)
    # A preference of 0 leaves its head out of the modified form.
    balancer = B.tchebycheff({"a": 0.0, "b": 1.0, "c": 2.0}, modified=True)
    np.testing.assert_array_equal(weights_of(balancer, [[9, 1, 1]]), [[0.0, 1.0, 0.0]])


@pytest.mark.parametrize("name", [n for n in TOTALS if n.endswith("uniform")])
def test_uniform_preferences_are_those_of_the_heads_present(name):
    balancer, _ = TOTALS[name]
    present = jnp.array([True, False, True])
    got = weights_of(balancer, VALUES, present)
    alone = weights_of(balancer, VALUES[:, [0, 2]], names=("a", "c"))
    np.testing.assert_allclose(got[:, [0, 2]], alone, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(got[:, 1], 0.0)


def test_a_value_that_is_not_finite_counts_as_absent():
    balancer = B.gls()
    got = weights_of(balancer, [[1.0, np.nan, 4.0], [1.0, np.inf, 4.0]])
    np.testing.assert_allclose(got, [[1.0, 0.0, 0.25]] * 2, rtol=1e-6)


def test_a_sweep_varies_preferences_and_reference_in_one_program():
    balancer = B.tchebycheff(PREFERENCES, REFERENCE)
    traces = []

    @jax.jit
    @jax.vmap
    def weights(state):
        traces.append(1)
        return balancer.update(hw.Signals(jnp.ones(3)), state)[0].weights

    rows = jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    state = balancer.init(NAMES)._replace(preferences=rows, reference=0.0 * rows)
    np.testing.assert_array_equal(weights(state), [[0, 0, 3], [3, 0, 0]])
    weights(state._replace(preferences=2 * rows))
    assert len(traces) == 1


def test_no_gradient_flows_through_the_weights():
    for name, (balancer, _) in TOTALS.items():
        state = balancer.init(NAMES)

        def total(values, balancer=balancer, state=state):
            return jnp.sum(balancer.update(hw.Signals(values), state)[0].weights)

        slope = jax.jit(jax.grad(total))(jnp.array([1.0, 2.0, 3.0]))
        np.testing.assert_array_equal(slope, 0.0, err_msg=name)


def stch_warm_up(values, p, smoothness, warm_up, window):
    """LibMTL's form in float64."""
    weights = []
    for t, v in enumerate(values):
        if t < warm_up:
            weights.append(1 / v)
            continue
        nadir = np.mean(values[warm_up - window : warm_up], axis=0)
        q = 3 * p / p.sum()

        def total(v, nadir=nadir, q=q):
            return 3 * smoothness * log_sum_exp(q * np.log(v / nadir) / smoothness)

        weights.append(slopes(total, v))
    return np.stack(weights)


@pytest.mark.parametrize(("warm_up", "window"), [(1, 1), (5, 2), (6, 6)])
@pytest.mark.parametrize("preferences", [None, PREFERENCES])
def test_stch_after_a_warm_up(warm_up, window, preferences):
    balancer = B.stch(0.4, preferences, warm_up=warm_up, window=window)

    def body(state, row):
        decision, state = balancer.update(hw.Signals(row), state)
        return state, decision.weights

    values = VALUES[:10]
    rows = jnp.asarray(values, jnp.float32)
    _, weights = jax.jit(lambda s: jax.lax.scan(body, s, rows))(balancer.init(NAMES))
    p = np.ones(3) if preferences is None else P
    expected = stch_warm_up(values, p, 0.4, warm_up, window)
    # Logs are divided by 0.4; weights reach 15.
    np.testing.assert_allclose(weights, expected, rtol=2e-5, atol=1e-6)


def test_stch_nadir_of_a_head_that_missed_the_warm_up():
    """It is the first value seen after it; others have the mean of those they had."""
    balancer = B.stch(1.0, warm_up=2, window=2)
    state, update = balancer.init(("a", "b")), jax.jit(balancer.update)
    for values, present in [
        ([2.0, 9.0], [True, False]),
        ([9.0, 9.0], [False, False]),
        ([2.0, 5.0], [True, True]),
        ([2.0, 7.0], [True, True]),
    ]:
        signals = hw.Signals(jnp.array(values), present=jnp.array(present))
        decision, state = update(signals, state)
    np.testing.assert_allclose(state.nadir_sum / state.nadir_count, [2.0, 5.0])
    # softmax(log ratio) is ratio / Σ ratio, ratios 1 and 7 / 5.
    expected = 2 * np.array([1, 1.4]) / 2.4 / np.array([2.0, 7.0])
    np.testing.assert_allclose(decision.weights, expected, rtol=1e-6)


@pytest.mark.parametrize("models", [1, 2, 5])
def test_stch_set_over_models(models):
    values = np.random.default_rng(models).uniform(0.2, 2.0, size=(models, 3))

    def total(v):
        best = [-0.2 * log_sum_exp(-v[:, h] / 0.2) for h in range(3)]
        return 0.2 * log_sum_exp(np.array(best) / 0.2)

    expected = np.zeros_like(values)
    for k, h in itertools.product(range(models), range(3)):
        step = np.zeros_like(values)
        step[k, h] = 1e-5
        expected[k, h] = (total(values + step) - total(values - step)) / 2e-5
    balancer = B.stch_set(0.2, axis_name="models")
    state = balancer.init(NAMES)

    def one(row, present):
        return balancer.update(hw.Signals(row, present=present), state)[0].weights

    weights = jax.jit(jax.vmap(one, axis_name="models"))
    rows = jnp.asarray(values, jnp.float32)
    got = weights(rows, jnp.ones((models, 3), bool))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-6)
    # A head that the first model lacks is left to the others, or to none.
    lacking = jnp.ones((models, 3), bool).at[0, 1].set(False)
    got = weights(rows.at[0, 1].set(jnp.nan), lacking)
    assert got[0, 1] == 0
    np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-6)
    assert bool(got[1:, 1].any()) == (models > 1)
    np.testing.assert_array_equal(weights(rows, jnp.zeros_like(lacking)), 0.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: B.stch(0.0), r"smoothness: expected a positive number, got 0\.0"),
        (lambda: B.stch_set(-1), r"smoothness: expected a positive number, got -1"),
        (lambda: B.stch(1.0, warm_up=-1), "warm_up: expected an int >= 0, got -1"),
        (lambda: B.stch(1.0, warm_up=2, window=0), "window: .*positive int, got 0"),
        (lambda: B.stch(1.0, warm_up=2, window=3), "window: .*warm_up = 2, got 3"),
        (
            lambda: B.stch(1.0, reference=REFERENCE, warm_up=2),
            "reference: expected None with a warm_up",
        ),
        (lambda: B.p_norm(0.5), r"p: expected a number >= 1, got 0\.5"),
        (lambda: B.pbi(-1.0), r"theta: expected a number >= 0, got -1\.0"),
        (lambda: B.cosmos(-1.0), r"penalty: expected a number >= 0, got -1\.0"),
    ],
)
def test_numbers_out_of_range_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "make",
    [
        B.gls,
        B.tchebycheff,
        lambda p: B.stch(1.0, p),
        lambda p: B.stch(1.0, p, warm_up=1),
        lambda p: B.pbi(1.0, p),
        lambda p: B.cosmos(1.0, p),
        lambda p: B.p_norm(2.0, p),
        lambda p: B.scalarization(lambda v, p, present: jnp.sum(v), p),
    ],
)
def test_wrong_preferences_are_named(make):
    with pytest.raises(TypeError, match="preferences: expected a dict by name"):
        make([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"preferences: .*missing \['c'\]"):
        make({"a": 1.0, "b": 2.0}).init(NAMES)
    with pytest.raises(ValueError, match=r"preferences\['a'\]: .* an array of sha"):
        make({"a": jnp.ones(2), "b": 1.0, "c": 1.0}).init(NAMES)


def test_other_misuse_is_named():
    with pytest.raises(ValueError, match=r"reference: .*unknown \['d'\]"):
        B.tchebycheff(reference=REFERENCE | {"d": 1.0}).init(NAMES)
    with pytest.raises(TypeError, match="function: expected a callable, got float"):
        B.scalarization(2.0)
