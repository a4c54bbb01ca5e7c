"""Balancers that go by how values develop, over many steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.balancers import _formulas
from tests.balancers._formulas import NAMES
from tests.balancers._formulas import STEPS
from tests.balancers._formulas import VALUES

B = hw.balancers


@pytest.mark.parametrize("name", _formulas.FORMULAS)
def test_weights_follow_the_formula(name):
    expected = np.stack(list(_formulas.FORMULAS[name][1](VALUES)))
    # Twelve steps in float32; softmaxes multiply the rounding by their logits, up to 7.
    np.testing.assert_allclose(
        _formulas.weights_of(name), expected, rtol=2e-5, atol=1e-6
    )


SUMS = {
    "dwa": 3,
    "dwa, windows": 3,
    "famo": 1,
    "ldc, no penalty": 1,
    "softadapt, loss-weighted": 1,
    "relobralo": 3,
    "uw_so": 1,
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_over_the_heads_present(name):
    np.testing.assert_allclose(_formulas.weights_of(name).sum(1), SUMS[name], rtol=1e-6)
    present = np.random.default_rng(1).random((STEPS, 3)) < 0.7
    present[0] = [True, True, False]
    present[3] = False
    values = np.where(present, VALUES, np.nan)
    weights, _ = _formulas.loop(_formulas.FORMULAS[name][0], values, present)
    assert (weights[~present] == 0).all()
    count = present.sum(1)
    expected = count if SUMS[name] == 3 else np.minimum(count, 1)
    np.testing.assert_allclose(weights.sum(1), expected, rtol=1e-6)


@pytest.mark.parametrize("name", _formulas.FORMULAS)
def test_an_absent_head_keeps_its_state(name):
    """All but logs of the last weights, and the window of dwa, which closes."""
    balancer = _formulas.FORMULAS[name][0]
    _, before = _formulas.loop(balancer, VALUES[:7])
    row = VALUES[7:8].copy()
    row[0, 1] = np.nan
    present = np.array([[True, False, True]])
    _, after = _formulas.loop(balancer, row, present, state=before)
    # A state of weights alone is a log, no memory.
    skip = {"weights"} if before._fields == ("names", "weights") else set()
    for field in set(before._fields) - skip:
        pair = getattr(before, field), getattr(after, field)
        for old, new in zip(*map(jax.tree.leaves, pair), strict=True):
            if jnp.shape(old) == (3,) and field not in ("summed", "number"):
                if name.startswith("dwa"):  # a window ended: what it saw is moved in
                    continue
                assert old[1] == new[1], field


def test_published_totals():
    """TorchJD, tests/unit/scalarization: IMTLL([1, 2, 4]) = 7, UW([1, 2, 4]) = 3.5."""
    values = np.array([[1.0, 2.0, 4.0]])
    weights, _ = _formulas.loop(B.imtl_l(), values)
    assert (weights * values).sum() == 7.0  # minus Σ s = 0
    weights, _ = _formulas.loop(B.uncertainty(), values)
    assert (weights * values).sum() == 3.5  # plus Σ s / 2 = 0


def test_imtl_l_comes_to_rest_where_weighted_values_are_one():
    """On a quadratic problem: values a (x - c)² + b of one shared parameter."""
    a, c, b = jnp.array([1.0, 5.0]), jnp.array([0.0, 1.0]), jnp.array([0.1, 20.0])
    balancer = B.imtl_l(optax.sgd(0.1))

    def values_of(x):
        return a * (x - c) ** 2 + b

    @jax.jit
    def run():
        def body(carry, _):
            x, state = carry
            values, pull = values_of(x), 2 * a * (x - c)
            decision, state = balancer.update(hw.Signals(values), state)
            # Slower than s, as far as s allows.
            x = x - 0.02 * jnp.sum(decision.weights * pull)
            return (x, state), (decision.weights * values, decision.weights)

        return jax.lax.scan(
            body, (jnp.float32(3.0), balancer.init(("a", "b"))), length=2000
        )

    (x, _), (weighted, weights) = run()
    np.testing.assert_allclose(weighted[-1], [1.0, 1.0], rtol=1e-5)
    # There the gradient of Σ log value vanishes.
    np.testing.assert_allclose(jnp.sum(weights[-1] * a * (x - c)), 0.0, atol=1e-5)


def train_famo(second_forward):
    """Two quadratics a x² of a parameter each; log values of every step, weights."""
    a = jnp.array([1.0, 4.0])
    balancer = B.famo(second_forward, optimizer=optax.sgd(8.0))
    assert (balancer.after is not None) == second_forward

    @jax.jit
    def run():
        def body(carry, _):
            x, state = carry
            decision, state = balancer.update(hw.Signals(a * x**2), state)
            moved = x - 0.02 * decision.weights * 2 * a * x
            if balancer.after is not None:
                state = balancer.after(a * moved**2, state)
            return (moved, state), (jnp.log(a * x**2), decision.weights)

        start = jnp.array([1.0, 0.5]), balancer.init(("a", "b"))
        return jax.lax.scan(body, start, length=400)[1]

    return tuple(map(np.asarray, run()))


def test_famo_makes_all_logs_fall_at_the_same_rate():
    logs, weights = train_famo(second_forward=True)
    early, late = np.diff(logs[:3], axis=0)[0], np.diff(logs, axis=0)[-1]
    assert early[1] < 3 * early[0] < 0
    # Logs down to -13 are rounded at 1e-6, their differences are 0.06.
    np.testing.assert_allclose(late[0], late[1], rtol=1e-4)
    np.testing.assert_allclose(weights[-1], [0.8, 0.2], rtol=1e-4)
    assert (late < -0.05).all()


def test_famo_forms_agree_where_batches_are_the_same():
    """The next batch's values are then those after the step."""
    _, second = train_famo(second_forward=True)
    _, following = train_famo(second_forward=False)
    np.testing.assert_allclose(second, following, rtol=1e-4)  # 400 steps in float32


def test_famo_judges_only_heads_of_this_batch():
    balancer = B.famo()
    _, state = _formulas.loop(balancer, VALUES[:1], np.array([[True, False, True]]))
    after = balancer.after(jnp.array([0.1, jnp.nan, 5.0]), state)
    assert after.logits[1] == 0.0
    assert after.logits[0] < 0 < after.logits[2]
    for leaf in jax.tree.leaves(after):
        assert np.isfinite(leaf).all()


def test_scale_of_a_head_does_not_matter_where_ratios_count():
    scale = np.array([1e-6, 1.0, 1e6])
    for name in ("dwa, windows", "relobralo"):
        scaled, _ = _formulas.loop(_formulas.FORMULAS[name][0], VALUES * scale)
        np.testing.assert_allclose(scaled, _formulas.weights_of(name), rtol=2e-5)
    name = "softadapt, normalized"
    scaled, _ = _formulas.loop(_formulas.FORMULAS[name][0], VALUES * 1e6)
    np.testing.assert_allclose(scaled, _formulas.weights_of(name), rtol=2e-5)
    # famo and imtl_l at rest: the share of the total that a head has.
    plain, _ = _formulas.loop(B.famo(False), VALUES)
    scaled, _ = _formulas.loop(B.famo(False), VALUES * scale)
    shares = [
        w * v / (w * v).sum(1, keepdims=True)
        for w, v in ((plain, VALUES), (scaled, VALUES * scale))
    ]
    np.testing.assert_allclose(shares[0], shares[1], rtol=2e-5)


def test_dwa_windows():
    """Means of windows of two; the first two windows have equal weights."""
    values = np.array([1.0, 3, 2, 6, 0, 0, 1, 1, 7, 7])  # means 2, 4, 0, 1, 7
    rows = np.stack([values, np.ones(10)], axis=1)
    weights, _ = _formulas.loop(B.dwa(1.0, window=2), rows, names=("a", "b"))
    for window, ratio in enumerate([1.0, 1.0, 2.0, 0.0]):
        expected = 2 * _formulas.softmax(np.array([ratio, 1.0]))
        np.testing.assert_allclose(
            weights[2 * window : 2 * window + 2], [expected] * 2, rtol=1e-6
        )
    np.testing.assert_allclose(weights[8:], [[2.0, 0.0]] * 2)  # 1 / 0 is very large
    # 0 / 0: no change.
    weights, _ = _formulas.loop(B.dwa(), np.zeros((4, 3)))
    np.testing.assert_allclose(weights, 1.0, rtol=1e-6)
    # Absent for all of the second window: the means are of the first and the third.
    present = np.ones((8, 2), bool)
    present[2:4, 0] = False
    weights, _ = _formulas.loop(
        B.dwa(1.0, window=2), rows[:8], present, names=("a", "b")
    )
    expected = 2 * _formulas.softmax(np.array([0.0, 1.0]))  # 0 / 2
    np.testing.assert_allclose(weights[6:], [expected] * 2, rtol=1e-6)


def test_ldc_comes_to_rest_where_weighted_values_are_equal():
    values = np.tile([0.5, 1.0, 4.0], (3000, 1))
    keys = jax.random.split(jax.random.key(0), 3000)
    rate = optax.sgd(optax.cosine_decay_schedule(0.05, 3000))
    for pairs in ("all", "chain"):
        balancer = B.ldc(0.0, rate, pairs)
        weights, _ = _formulas.loop(balancer, values, keys=keys)
        # Subgradient steps of size below 1e-3 by then.
        np.testing.assert_allclose(weights[-1] * values[-1], 1 / 3.25, rtol=5e-3)


def test_relobralo_looks_back_when_told():
    always, _ = _formulas.loop(B.relobralo(1.0, 0.5, rho=0.0), VALUES)
    expected = [3 * _formulas.softmax(v / (0.5 * VALUES[0])) for v in VALUES[1:]]
    np.testing.assert_allclose(always[1:], expected, rtol=1e-5)
    never, _ = _formulas.loop(B.relobralo(1.0, 0.5, rho=1.0), VALUES)
    np.testing.assert_array_equal(never, 1.0)


EDGES = [[0.0, 0, 0], [1e-10, 0, 1], [-1, 0, 1], [2, 2, 2], [1e30, 1e-30, 1], [0, 0, 0]]


@pytest.mark.parametrize("name", _formulas.FORMULAS)
def test_finite_whatever_the_values(name):
    """Also over changes from one edge to another, and back."""
    balancer = _formulas.FORMULAS[name][0]
    weights, state = _formulas.loop(balancer, np.array(EDGES + EDGES[::-1]))
    for leaf in (weights, *jax.tree.leaves(state)):
        assert np.isfinite(leaf).all()
    assert (weights >= 0).all()
    if name != "famo":  # its minima are of three heads
        weights, _ = _formulas.loop(balancer, VALUES[:, :1], names=("a",))
        assert (weights > 0).all()


def test_imtl_l_stays_in_its_bounds():
    """Next to 0 the log weight stops at 14; at 0 there is nothing to learn."""
    weights, state = _formulas.loop(
        B.imtl_l(optax.sgd(10.0)), np.tile([1e-30, 0.0, -1.0], (12, 1))
    )
    np.testing.assert_array_equal(state.log_weight, [14.0, 0.0, 0.0])
    np.testing.assert_allclose(weights[-1], [np.exp(14.0), 1.0, 1.0], rtol=1e-6)


def test_no_gradient_flows_through_the_weights():
    for name, (balancer, _) in _formulas.FORMULAS.items():
        state = balancer.init(NAMES)

        def total(values, balancer=balancer, state=state):
            key = jax.random.key(0)
            decision, new = balancer.update(hw.Signals(values, key=key), state)
            leaves = [x for x in jax.tree.leaves(new) if x.dtype == jnp.float32]
            return sum(map(jnp.sum, [decision.weights, *leaves]))

        slope = jax.jit(jax.grad(total))(jnp.array([1.0, 2.0, 3.0]))
        np.testing.assert_array_equal(slope, 0.0, err_msg=name)


def test_minima_are_of_all_heads():
    with pytest.raises(ValueError, match=r"min_values: .*missing \['b'\]"):
        B.famo(min_values={"a": 0.0}).init(["a", "b"])


def test_temperature_may_be_traced():
    """One program for a sweep over it."""

    @jax.jit
    def weights(temperature):
        balancer = B.uw_so(temperature)
        signals = hw.Signals(jnp.array([1.0, 2.0]))
        return balancer.update(signals, balancer.init(("a", "b")))[0].weights

    for t in (0.5, 2.0):
        expected = _formulas.softmax(np.array([1.0, 0.5]) / t)
        np.testing.assert_allclose(weights(t), expected, rtol=1e-6)
